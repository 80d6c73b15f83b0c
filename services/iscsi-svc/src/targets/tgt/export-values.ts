import { createHash } from 'node:crypto';
import { isAbsolute } from 'node:path';
import { TargetError, type ExportSpec } from '../target.port.js';
import { checkValue } from './tgt-protocol.js';

/** RFC 3720 section 3.2.6.3.1, in lower case only: tgtd compares with strcmp. */
const INITIATOR = /^iqn\.\d{4}-\d{2}\.[a-z0-9._:-]+$/;
/** As above, without the underscore: tgtd refuses it in a target's name (usr/target.c, tgt_target_create). */
const TARGET = /^iqn\.\d{4}-\d{2}\.[a-z0-9.:-]+$/;
const MAX_NAME = 223;

/** RFC 3720 section 8.2.1: a secret of less than 96 bits could be guessed from one overheard login. */
const MIN_SECRET = 12;
/** char pass[ISCSI_NAME_LEN] in usr/iscsi/chap.c; some initiators stop at 16. */
const MAX_SECRET = 255;

/** Refuses what tgtd could not hold, or would hold and never match. Throws `target.invalid_value`. */
export function checkSpec({ pool, iqn, initiator, chap, backing }: ExportSpec): void {
  checkValue('pool', pool);
  checkIqn(iqn);
  if (!INITIATOR.test(initiator) || initiator.length > MAX_NAME) {
    throw invalid('the initiator is not an IQN: use iqn.YYYY-MM.domain:name in lower case');
  }
  if (!/^[!-~]{1,255}$/.test(checkValue('CHAP user', chap.user)))
    throw invalid('the CHAP user must be printable ASCII');
  const secret = checkValue('CHAP secret', chap.secret);
  if (!/^[!-~]+$/.test(secret) || secret.length < MIN_SECRET || secret.length > MAX_SECRET) {
    throw invalid(`the CHAP secret must be ${MIN_SECRET} to ${MAX_SECRET} printable ASCII characters`);
  }
  const path = checkValue('backing path', backing.path);
  // tgtd's working directory is /. A listing shows no spaces at the ends, so such a path would never look right.
  if (!isAbsolute(path) || path !== path.trim())
    throw invalid('the backing path must be absolute, without spaces around');
}

export function checkIqn(iqn: string): void {
  if (!TARGET.test(iqn) || iqn.length > MAX_NAME) {
    throw invalid(
      'the target is not an IQN that tgt accepts: use iqn.YYYY-MM.domain:name with a-z, 0-9, dots, dashes and colons',
    );
  }
}

/**
 * The LUN's identity (INQUIRY, VPD pages 80h and 83h). By default tgtd derives it from the target's number: then disks of two tgtd would
 * have the same identity, which multipath takes for two paths to one disk, and a disk would change its identity when it is put back after a
 * crash.
 */
export function scsiIdentity(iqn: string): Record<string, string> {
  const digest = createHash('sha256').update(iqn).digest('hex');
  return { vendor_id: 'M2', product_id: 'DISK', scsi_id: digest.slice(0, 32), scsi_sn: digest.slice(0, 32) };
}

const invalid = (message: string) => new TargetError('target.invalid_value', message);
