import { bootConfigCreate, bootConfigDelete, bootConfigShow, diskReattached, powerShow } from '@m2/contracts';
import { Controller, Module, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, type MessageHandler, MessagePattern } from '@nestjs/microservices';
import { lastValueFrom, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Bus } from './bus.js';
import type { Effect } from './effects.js';
import { ErrorFilter } from './error-filter.js';
import { Answers, type CallExtras, Consumes, type EventExtras, Handles } from './handlers.js';
import { makeLog } from './log.js';
import { CallContext, EventContext } from './message-context.js';
import { NatsTransport } from './transport.js';

const nothing = async (): Promise<never> => {
  throw new Error('not called here');
};

@Controller()
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
@Controller()
class Shows {
  @Answers(bootConfigShow)
  show() {
    return nothing();
  }
}
@Controller()
class ShowsToo {
  @Answers(bootConfigShow)
  again() {
    return nothing();
  }
}
@Controller()
class Powers {
  @Answers(powerShow)
  show() {
    return nothing();
  }
}
@Controller()
class Plain {
  show() {
    return nothing();
  }
}

const moduleOf = (imports: Type[], controllers: Type[] = []): Type => {
  @Module({ imports, controllers })
  class TestModule {}
  return TestModule;
};

/** The boot service with these controllers, in a module each list, on a connection that keeps what is subscribed to. */
class Started extends NatsTransport {
  readonly handlers = new Map<string, MessageHandler>();
  readonly extras: Partial<CallExtras & EventExtras>[] = [];
  readonly subjects: string[] = [];

  constructor() {
    const subscribe = (subject: string) => this.subjects.push(subject);
    const bus = { connection: { subscribe, flush: async () => {} } } as unknown as Bus;
    const log = makeLog('boot', 'silent');
    super({ service: 'boot', bus, database: undefined as never, log, effects: undefined as never, concurrency: 10 });
  }

  override addHandler(...[pattern, handler, isEvent, extras]: Parameters<NatsTransport['addHandler']>): void {
    super.addHandler(pattern, handler, isEvent, extras);
    this.handlers.set(pattern, handler);
    this.extras.push(extras!);
  }

  async with(...modules: Type[][]): Promise<this> {
    const root = moduleOf(modules.map((controllers) => moduleOf([], controllers)));
    const options = { strategy: this, logger: false as const, abortOnError: false };
    const app = await NestFactory.createMicroservice(root, options);
    app.useGlobalFilters(new ErrorFilter());
    await app.listen();
    return this;
  }
}

const start = (...modules: Type[][]) => new Started().with(...modules);

const problemsOf = (...modules: Type[][]): Promise<string[]> =>
  start(...modules).then(
    () => [],
    (error: Error) =>
      error.message
        .split('\n')
        .slice(1)
        .map((line) => line.trim()),
  );

describe('a service', () => {
  it('starts when each of its calls has one handler, which keeps its object', async () => {
    const { handlers, subjects } = await start([Configs, Shows, Plain]);
    const owned = [bootConfigCreate, bootConfigDelete, bootConfigShow].map(({ subject }) => subject).toSorted();
    expect([...handlers.keys()].toSorted()).toEqual(owned);
    expect(subjects.toSorted()).toEqual(owned);
    const context = new CallContext(bootConfigDelete, undefined, (work) => work({} as Effect));
    const answer = (await handlers.get(bootConfigDelete.subject)!({}, context)) as Observable<unknown>;
    await expect(lastValueFrom(answer)).rejects.toThrow('called on configs');
  });

  it('does not start without a handler, and names what has none', async () => {
    expect(await problemsOf([Configs])).toEqual(['m2.qry.boot.config.show has no handler']);
  });

  it('does not start with two for one call, even of two objects of a class', async () => {
    expect(await problemsOf([Configs, Shows, ShowsToo])).toEqual(['m2.qry.boot.config.show has 2 handlers']);
    expect(await problemsOf([Configs, Shows], [Shows])).toEqual(['m2.qry.boot.config.show has 2 handlers']);
  });

  it('does not start with a handler of another service’s call', async () => {
    expect(await problemsOf([Configs, Shows, Powers])).toEqual(["m2.qry.hil.power.show is not the boot service's"]);
  });

  it('is told of all that is wrong at once', async () => {
    expect(await problemsOf([Powers, ShowsToo], [Shows])).toEqual([
      'm2.cmd.boot.config.create has no handler',
      'm2.cmd.boot.config.delete has no handler',
      'm2.qry.boot.config.show has 2 handlers',
      "m2.qry.hil.power.show is not the boot service's",
    ]);
  });

  it('does not start with a pattern of Nest’s that has no contract', async () => {
    @Controller()
    class Bare {
      @MessagePattern(bootConfigShow.subject)
      show() {
        return nothing();
      }
    }
    @Controller()
    class BareEvent {
      @EventPattern(diskReattached.subject)
      take(_data: object, ..._more: unknown[]) {
        return nothing();
      }
    }
    await expect(start([Configs, Bare])).rejects.toThrow(/m2\.qry\.boot\.config\.show is not bound by @Handles/);
    await expect(start([Configs, BareEvent])).rejects.toThrow(/is not bound by @Handles, @Answers or @Consumes/);
  });
});

describe('a decorator', () => {
  it('is of a command or of a query: a command outside an effect would be done twice', () => {
    expect(() => Answers(bootConfigCreate)).toThrow(/is a command: use @Handles/);
    expect(() => Handles(bootConfigShow)).toThrow(/is a query: use @Answers/);
  });
});

/** The compiler checks handlers against the contract: each of these is an error, and it would be one if it were not (TS2578). */
export class NotOfTheContract {
  // @ts-expect-error The answer is another one.
  @Answers(bootConfigShow)
  async show() {
    return { id: 1 };
  }

  // @ts-expect-error The request has no such field.
  @Handles(bootConfigDelete)
  async delete({ nodeId }: { nodeId: string }) {
    return nodeId ? {} : {};
  }

  // @ts-expect-error A query has no effect to commit.
  @Answers(bootConfigShow)
  change(_request: object, effect: Effect) {
    return effect.commit(nothing);
  }
}

describe('consumers', () => {
  it('are found with the durable that they are to have, and keep their object', async () => {
    const seen: string[] = [];
    @Controller()
    class Reopens {
      private readonly name = 'one';

      @Consumes({ durable: 'iscsi-reattached', of: diskReattached })
      async reopen() {
        seen.push(this.name);
      }
    }
    const started = new Started();
    // It is found before the service is refused for what it lacks.
    await expect(started.with([Plain, Reopens])).rejects.toThrow(/has no handler/);
    const subscription = { durable: 'iscsi-reattached', of: diskReattached };
    expect(started.extras).toEqual([{ subscription }]);
    await started.handlers.get(diskReattached.subject)!([], new EventContext(subscription, { query: nothing }));
    expect(seen).toEqual(['one']);
  });
});
