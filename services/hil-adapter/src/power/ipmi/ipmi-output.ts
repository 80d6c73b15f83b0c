import type { PowerState } from '../power.port.js';

/**
 * A line for ipmitool, and what its answer looks like (lib/ipmi_chassis.c of ipmitool 1.8.19). Success is this one line on standard output
 * and nothing else; `refused` and `unanswered` are lines on standard error.
 */
export interface IpmiCommand<Answer> {
  line: string;
  answer(line: string): Answer | undefined;
  /** The BMC answered with a completion code that means no. */
  refused: RegExp;
  /** The BMC did not answer this command. */
  unanswered: RegExp;
  /** Refusals, or lines in place of an answer, after which the same command may succeed a moment later. */
  busy: RegExp;
  /** A refusal that leaves open whether there was anything to do; the next reading of the power state tells. */
  moot?: { refusal: RegExp; answer: Answer };
}

/** Completion codes C0h, C3h and D2h (IPMI 2.0 section 5.2) in ipmitool's words. */
const busy = /failed: (?:Node busy|Timeout|BMC initialization in progress)$/m;

export const readPower: IpmiCommand<PowerState> = {
  line: 'chassis power status',
  answer: (line) => /^Chassis Power is (on|off)$/.exec(line)?.[1] as PowerState | undefined,
  refused: /^Get Chassis Power Status failed: .*/m,
  unanswered: /^Unable to get Chassis Power Status/m,
  // To read again does no harm, so it is done whatever stood in the way.
  busy: /^Get Chassis Power Status failed: |^Chassis Power is unknown$/m,
};

const control = (verb: string, said: string): IpmiCommand<true> => ({
  line: `chassis power ${verb}`,
  answer: (line) => line === `Chassis Power Control: ${said}` || undefined,
  refused: new RegExp(`^Set Chassis Power Control to ${said} failed: .*`, 'm'),
  unanswered: new RegExp(`^Unable to set Chassis Power Control to ${said}`, 'm'),
  busy,
  // D5h: a node that is off already cannot be powered off.
  moot: { refusal: /failed: Command not supported in present state$/m, answer: true },
});

export const powerOn = control('on', 'Up/On');
export const powerOff = control('off', 'Down/Off');

/**
 * The next boot, and only that one, from the network. ipmitool also sets parameters 0 (set in progress) and 4 (acknowledge), which some
 * BMCs do not have; parameter 5, the boot flags, decides (IPMI 2.0 section 28.13).
 */
export const nextBootFromNetwork = (firmware: 'bios' | 'uefi'): IpmiCommand<true> => ({
  line: firmware === 'uefi' ? 'chassis bootdev pxe options=efiboot' : 'chassis bootdev pxe',
  answer: (line) => line === 'Set Boot Device to pxe' || undefined,
  refused: /^Set Chassis Boot Parameter 5 failed: .*/m,
  unanswered: /^Error setting Chassis Boot Parameter [45]/m,
  busy,
});

export type SessionFailure = 'unreachable' | 'busy' | 'auth' | 'suite' | 'tool' | 'unknown';

const failures: [SessionFailure, RegExp][] = [
  ['tool', /^stdbuf: failed to run command/m],
  ['unreachable', /^Get Auth Capabilities error|^Address lookup for .* failed|^Could not open socket/m],
  [
    'busy',
    /^(?:Error in open session response message|RAKP [24] message indicates an error) : insufficient resources/m,
  ],
  // It had answered the message before, so it is there.
  ['busy', /no response from RAKP 1 message|^Set Session Privilege Level to \w+ failed: Unknown/m],
  ['unreachable', /no response from RAKP 3 message/],
  ['suite', /^Error in open session response message : .*(?:algorithm|cipher suite)/m],
  // Some BMCs do not answer at all to a suite that they do not have.
  ['suite', /^Timeout in open session response message/m],
  [
    'suite',
    /algorithm 0x\w+ is not what we requested|^Unsupported cipher suite|no support for authentication algorithm/m,
  ],
  ['auth', /RAKP 2 HMAC is invalid|RAKP 4 message has invalid integrity check value/],
  [
    'auth',
    /^RAKP [24] message indicates an error : (?:unauthorized|invalid (?:role|name length|integrity check value))/m,
  ],
];

/** Why ipmitool (with `-v`) could not open a session, from its standard error (src/plugins/lanplus of ipmitool 1.8.19). */
export const sessionFailure = (stderr: string): SessionFailure =>
  failures.find(([, pattern]) => pattern.test(stderr))?.[0] ?? 'unknown';
