import { describe, expect, it } from 'vitest';
import { nextBootFromNetwork, powerOff, powerOn, readPower, sessionFailure } from './ipmi-output.js';

/** Output of ipmitool 1.8.19. */
const opened = `Loading IANA PEN Registry...
Running Get VSO Capabilities my_addr 0x20, transit 0, target 0x20
Invalid completion code received: Invalid command
Discovered IPMB address 0x0
`;

describe('answers', () => {
  it('reads the power state', () => {
    expect(readPower.answer('Chassis Power is on')).toBe('on');
    expect(readPower.answer('Chassis Power is off')).toBe('off');
  });

  it.each(['', 'Chassis Power is', 'Chassis Power is on!', 'Chassis Power is off\nChassis Power is on', 'on'])(
    'takes %j for nothing',
    (line) => {
      expect(readPower.answer(line)).toBeUndefined();
    },
  );

  it('knows the answer of each command, and does not take one for the other', () => {
    const boot = nextBootFromNetwork('bios');
    expect(powerOn.answer('Chassis Power Control: Up/On')).toBe(true);
    expect(powerOn.answer('Chassis Power Control: Down/Off')).toBeUndefined();
    expect(powerOff.answer('Chassis Power Control: Down/Off')).toBe(true);
    expect(boot.answer('Set Boot Device to pxe')).toBe(true);
    expect(boot.answer('Set Boot Device to disk')).toBeUndefined();
  });

  it('asks for UEFI when the firmware is UEFI', () => {
    expect(nextBootFromNetwork('bios').line).toBe('chassis bootdev pxe');
    expect(nextBootFromNetwork('uefi').line).toBe('chassis bootdev pxe options=efiboot');
  });
});

describe('complaints', () => {
  const boot = nextBootFromNetwork('bios');

  it('tells a refusal from no answer', () => {
    const refused = `${opened}Set Chassis Power Control to Up/On failed: Unspecified error\n`;
    expect(powerOn.refused.exec(refused)?.[0]).toBe('Set Chassis Power Control to Up/On failed: Unspecified error');
    expect(powerOn.unanswered.test(refused)).toBe(false);
    const silent = `${opened}Unable to set Chassis Power Control to Up/On\n`;
    expect(powerOn.refused.test(silent)).toBe(false);
    expect(powerOn.unanswered.test(silent)).toBe(true);
  });

  it('forgives a BMC without the boot parameters 0 and 4, not one without 5', () => {
    const half = `${opened}Set Chassis Boot Parameter 0 failed: Unspecified error\nSet Chassis Boot Parameter 4 failed: Unspecified error\n`;
    expect(boot.refused.test(half)).toBe(false);
    expect(boot.refused.test(`${half}Set Chassis Boot Parameter 5 failed: Unspecified error\n`)).toBe(true);
  });

  it('takes the chatter of a session that works for no complaint', () => {
    for (const command of [readPower, powerOn, powerOff, boot]) {
      expect(command.refused.test(opened)).toBe(false);
      expect(command.unanswered.test(opened)).toBe(false);
    }
  });
});

describe('a BMC that is busy', () => {
  it('is told from one that refuses', () => {
    for (const code of ['Node busy', 'Timeout', 'BMC initialization in progress'])
      for (const [command, line] of [
        [readPower, `Get Chassis Power Status failed: ${code}`],
        [powerOn, `Set Chassis Power Control to Up/On failed: ${code}`],
        [nextBootFromNetwork('bios'), `Set Chassis Boot Parameter 5 failed: ${code}`],
      ] as const) {
        const refused = command.refused.exec(`${opened}${line}\n`)![0];
        expect([line, command.busy.test(refused)]).toEqual([line, true]);
      }
    expect(powerOn.busy.test('Set Chassis Power Control to Up/On failed: Unspecified error')).toBe(false);
    expect(nextBootFromNetwork('bios').busy.test('Set Chassis Boot Parameter 5 failed: Unknown (0x81)')).toBe(false);
  });

  it('may be read again whatever it says to a reading', () => {
    for (const line of ['Get Chassis Power Status failed: Unspecified error', 'Chassis Power is unknown'])
      expect([line, readPower.busy.test(line)]).toEqual([line, true]);
    expect(readPower.busy.test('Chassis Power is on!')).toBe(false);
  });

  it('does not refuse to be powered off because it is off', () => {
    const refused = 'Set Chassis Power Control to Down/Off failed: Command not supported in present state';
    expect(powerOff.refused.exec(refused)?.[0]).toBe(refused);
    expect(powerOff.moot?.refusal.test(refused)).toBe(true);
    expect(powerOff.moot?.refusal.test('Set Chassis Power Control to Down/Off failed: Unspecified error')).toBe(false);
  });
});

describe('sessionFailure', () => {
  const loading = 'Loading IANA PEN Registry...\n';
  const unable = 'Error: Unable to establish IPMI v2 / RMCP+ session\n';
  it.each([
    ['auth', '> RAKP 2 HMAC is invalid\n'],
    ['auth', 'RAKP 2 message indicates an error : unauthorized name\n'],
    ['auth', '> RAKP 4 message has invalid integrity check value\n'],
    ['suite', 'Error in open session response message : invalid authentication algorithm\n\n'],
    ['suite', 'Error in open session response message : no matching cipher suite\n\n'],
    ['busy', 'Error in open session response message : insufficient resources for session\n\n'],
    ['busy', 'RAKP 2 message indicates an error : insufficient resources for session\n\n'],
    [
      'busy',
      '> Error: no response from RAKP 1 message\nSet Session Privilege Level to ADMINISTRATOR failed: Insufficient privilege level\n',
    ],
    ['busy', 'Set Session Privilege Level to ADMINISTRATOR failed: Unknown (0x81)\n'],
    ['unreachable', '> Error: no response from RAKP 3 message\n'],
    ['auth', 'RAKP 2 message indicates an error : unauthorized role or privilege level requested\n\n'],
    ['unreachable', 'Get Auth Capabilities error\nError issuing Get Channel Authentication Capabilities request\n'],
    ['unreachable', 'Address lookup for no.such.host.invalid failed\nCould not open socket!\n'],
    ['unknown', ''],
  ])('finds %s in %j', (failure, complaint) => {
    expect(sessionFailure(loading + complaint + unable)).toBe(failure);
  });

  it('knows that the tool is missing', () => {
    expect(sessionFailure("stdbuf: failed to run command 'ipmitool': No such file or directory\n")).toBe('tool');
  });
});
