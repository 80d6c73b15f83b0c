import { Reference, renderScript, type Statement } from './ipxe-script.js';

export type Refusal =
  /** Nobody registered this nic. */
  | 'unknown_nic'
  /** The nic is known, and nothing is provisioned on its node now. */
  | 'no_boot_in_progress';

/** Where a node goes for which we have nothing: to the firmware's next boot device, or straight to its first local disk. */
export type Elsewhere = 'exit' | 'local-disk';

const reasons: Record<Refusal, string> = {
  unknown_nic: 'this nic is not registered. Register the node first.',
  no_boot_in_progress: 'no boot is in progress for this nic.',
};

/** The script for a nic that gets no disk. It says why on the console, tells nothing about anybody, and takes no input at all. */
export function refuse(refusal: Refusal, elsewhere: Elsewhere = 'exit'): string {
  const leave: Statement[] =
    elsewhere === 'exit'
      ? [{ do: 'exit' }]
      : [{ do: 'try', attempt: { do: 'sanboot', drive: '0x80' }, otherwise: { do: 'exit' } }];
  return renderScript([
    { do: 'echo', text: ['M2:', new Reference('netX/mac'), reasons[refusal]] },
    { do: 'sleep', seconds: 3 },
    ...leave,
  ]);
}
