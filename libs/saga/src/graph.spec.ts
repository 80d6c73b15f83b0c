import { describe, expect, it } from 'vitest';
import { isSameGraph } from './graph.js';
import { newStep } from './rows.js';
import { step } from './testing/world.js';

describe('a graph', () => {
  const steps = [step('a'), step('b', ['a']), step('c', ['a', 'b'])] as never[];
  const rows = (steps as ReturnType<typeof step>[]).map(newStep);

  it('is the same only with the same names, order and edges', () => {
    expect(isSameGraph(steps, rows)).toBe(true);
    expect(isSameGraph(steps, rows.slice(0, 2))).toBe(false);
    expect(isSameGraph(steps.slice(0, 2), rows)).toBe(false);
    expect(isSameGraph(steps, rows.toReversed())).toBe(false);
    expect(
      isSameGraph(
        steps,
        rows.map((row) => (row.name === 'c' ? { ...row, after: ['a'] } : row)),
      ),
    ).toBe(false);
  });

  it('of an operation from before it was stored is known by its names', () => {
    expect(
      isSameGraph(
        steps,
        rows.map((row) => ({ ...row, after: null })),
      ),
    ).toBe(true);
    expect(
      isSameGraph(
        steps,
        rows.slice(1).map((row) => ({ ...row, after: null })),
      ),
    ).toBe(false);
  });
});
