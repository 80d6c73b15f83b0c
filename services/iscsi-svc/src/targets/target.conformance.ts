import { describe } from 'vitest';
import { exportSuite } from './conformance/export-suite.js';
import { TargetFixture, type TargetHarness } from './conformance/fixture.js';
import { loginSuite } from './conformance/login-suite.js';
import { removalSuite } from './conformance/removal-suite.js';
import { survivalSuite } from './conformance/survival-suite.js';

/** What every target driver must pass, with real initiators: libiscsi's programs, QEMU, and our own. */
export function targetConformance(name: string, makeHarness: (dir: string) => TargetHarness): void {
  describe(`target conformance: ${name}`, () => {
    const fixture = new TargetFixture(makeHarness);
    loginSuite(fixture);
    exportSuite(fixture);
    removalSuite(fixture);
    survivalSuite(fixture);
  });
}
