import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, relative } from 'node:path';
import type { Reporter, TestModule, Vitest } from 'vitest/node';
import type { FileReport, TestReport, Tier } from './test-report.js';

/** Names the file that the report goes into. */
export const reportVariable = 'M2_TEST_REPORT';

/** Milliseconds since the epoch, as they were when this process started: between two of them nobody sets the clock. */
const now = () => Math.round(performance.timeOrigin + performance.now());

/**
 * A reporter of vitest: writes down how each file ended and how long it took, from the start of its worker to the end of its last hook.
 * vitest's own json reporter leaves out what hooks take, and those that start servers take longest.
 */
export default class TimesReporter implements Reporter {
  private readonly started = new Map<string, number>();
  private readonly ended = new Map<string, number>();
  private root = '';

  onInit(vitest: Vitest): void {
    this.root = vitest.config.root;
  }

  onTestModuleQueued({ id }: TestModule): void {
    this.started.set(id, now());
  }

  onTestModuleEnd({ id }: TestModule): void {
    this.ended.set(id, now());
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const report: TestReport = { files: modules.map((module) => this.describe(module)) };
    const path = process.env[reportVariable]!;
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${JSON.stringify(report, null, 2)}\n`);
  }

  private describe(module: TestModule): FileReport {
    const states = [...module.children.allTests()].map((test) => test.result().state);
    const count = (state: string) => states.filter((each) => each === state).length;
    const [passed, failed] = [count('passed'), count('failed')];
    // A file that could not be loaded, or whose hook failed, counts as one failed test: it must not show "0 failed".
    const broken = module.state() === 'failed' && failed === 0 ? 1 : 0;
    const startedAt = this.started.get(module.id) ?? 0;
    return {
      file: relative(this.root, module.moduleId),
      tier: module.project.name as Tier,
      startedAt,
      endedAt: this.ended.get(module.id) ?? startedAt,
      passed,
      failed: failed + broken,
      skipped: states.length - passed - failed,
    };
  }
}
