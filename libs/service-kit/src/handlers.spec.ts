import { bootConfigCreate, bootConfigDelete, bootConfigShow, diskReattached, powerShow } from '@m2/contracts';
import { describe, expect, it } from 'vitest';
import { Answers, Consumes, findConsumers, findHandlers, Handles } from './handlers.js';

const nothing = async (): Promise<never> => {
  throw new Error('not called here');
};

class Configs {
  private readonly who = 'configs';

  @Handles(bootConfigCreate)
  create() {
    return nothing();
  }

  @Handles(bootConfigDelete)
  async delete(): Promise<Record<string, never>> {
    throw new Error(`called on ${this.who}`);
  }
}
class Shows {
  @Answers(bootConfigShow)
  show() {
    return nothing();
  }
}
class ShowsToo {
  @Answers(bootConfigShow)
  again() {
    return nothing();
  }
}
class Powers {
  @Answers(powerShow)
  show() {
    return nothing();
  }
}
class Plain {
  show() {
    return nothing();
  }
}

const problemsOf = (instances: object[]): string[] => {
  try {
    findHandlers('boot', instances);
    return [];
  } catch (error) {
    return (error as Error).message
      .split('\n')
      .slice(1)
      .map((line) => line.trim());
  }
};

describe('a service', () => {
  it('starts when each of its calls has one handler, which keeps its object', async () => {
    const handlers = findHandlers('boot', [new Configs(), new Shows(), new Plain()]);
    expect([...handlers.keys()].map(({ subject }) => subject).toSorted()).toEqual(
      [bootConfigCreate, bootConfigDelete, bootConfigShow].map(({ subject }) => subject).toSorted(),
    );
    await expect(handlers.get(bootConfigDelete)!({})).rejects.toThrow('called on configs');
  });

  it('does not start without a handler, and names what has none', () => {
    expect(problemsOf([new Configs()])).toEqual(['m2.qry.boot.config.show has no handler']);
  });

  it('does not start with two for one call, even of two objects of a class', () => {
    expect(problemsOf([new Configs(), new Shows(), new ShowsToo()])).toEqual([
      'm2.qry.boot.config.show has 2 handlers',
    ]);
    expect(problemsOf([new Configs(), new Shows(), new Shows()])).toEqual(['m2.qry.boot.config.show has 2 handlers']);
  });

  it('does not start with a handler of another service’s call', () => {
    expect(problemsOf([new Configs(), new Shows(), new Powers()])).toEqual([
      "m2.qry.hil.power.show is not the boot service's",
    ]);
  });

  it('is told of all that is wrong at once', () => {
    expect(problemsOf([new Powers(), new ShowsToo(), new Shows()])).toEqual([
      'm2.cmd.boot.config.create has no handler',
      'm2.cmd.boot.config.delete has no handler',
      'm2.qry.boot.config.show has 2 handlers',
      "m2.qry.hil.power.show is not the boot service's",
    ]);
  });
});

describe('consumers', () => {
  it('are found with the durable that they are to have, and keep their object', async () => {
    const seen: string[] = [];
    class Reopens {
      constructor(private readonly name: string) {}

      @Consumes({ durable: 'iscsi-reattached', of: diskReattached })
      async reopen() {
        seen.push(this.name);
      }
    }
    const [consumer, ...more] = findConsumers([new Plain(), new Reopens('one')]);
    expect(more).toEqual([]);
    expect(consumer!.subscription).toEqual({ durable: 'iscsi-reattached', of: diskReattached });
    await consumer!.handler([], { query: nothing });
    expect(seen).toEqual(['one']);
  });
});
