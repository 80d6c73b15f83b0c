import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';

const algorithm = 'aes-256-gcm';
/** Bytes of the tag. Without a fixed length, a box cut to a few bytes would be checked against a tag of a few bytes, which can be guessed. */
const tag = { authTagLength: 16 };

/**
 * Encrypts what must not be readable in the database or a backup of it (CHAP secrets, BMC passwords): AES-256-GCM
 * (NIST SP 800-38D) with a random 96-bit nonce, and the row's identity as associated data, so that a sealed value copied into
 * another row does not open.
 */
export class SecretBox {
  private readonly key: Buffer;

  /** `key`: 64 hexadecimal digits. */
  constructor(key: string) {
    this.key = Buffer.from(key, 'hex');
  }

  /** Tells equal texts from others, and says nothing to who has no key: HMAC-SHA-256 (RFC 2104). */
  fingerprint(plain: string): Buffer {
    return createHmac('sha256', this.key).update(plain).digest();
  }

  seal(plain: string, identity: string): Buffer {
    const nonce = randomBytes(12);
    const cipher = createCipheriv(algorithm, this.key, nonce, tag).setAAD(Buffer.from(identity));
    const sealed = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]);
  }

  /** Throws when the key, the identity or a byte of the box is not the one that it was sealed with. */
  open(box: Buffer, identity: string): string {
    const decipher = createDecipheriv(algorithm, this.key, box.subarray(0, 12), tag).setAAD(Buffer.from(identity));
    decipher.setAuthTag(box.subarray(12, 28));
    return Buffer.concat([decipher.update(box.subarray(28)), decipher.final()]).toString('utf8');
  }
}
