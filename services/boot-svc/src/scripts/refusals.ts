import { Reference, renderScript } from './ipxe-script.js';

/**
 * The script for a nic without a boot in progress. It says so on the console, reveals nothing, and continues with the firmware's next
 * boot device.
 */
export const refuse = (): string =>
  renderScript([
    { do: 'echo', text: ['M2:', new Reference('netX/mac'), 'has no boot in progress.'] },
    { do: 'sleep', seconds: 3 },
    { do: 'exit' },
  ]);

/** The script for a nic whose disk cannot be named right now: it comes back. `url` is ours, never a user's. */
export const askAgain = (url: string): string =>
  renderScript([
    { do: 'echo', text: ['M2: not ready yet, asking again.'] },
    { do: 'sleep', seconds: 3 },
    { do: 'chain', to: [`${url}?mac=`, new Reference('netX/mac')] },
  ]);
