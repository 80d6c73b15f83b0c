import {
  type BootConfig,
  bootConfigCreate,
  bootConfigDelete,
  bootConfigShow,
  imageDeleted,
  M2Error,
  type RequestOf,
} from '@m2/contracts';
import {
  type ArgumentsHost,
  type CallHandler,
  type CanActivate,
  Catch,
  Controller,
  type ExecutionContext,
  Injectable,
  Module,
  type NestInterceptor,
  type PipeTransform,
  type RpcExceptionFilter,
  UseFilters,
  UseGuards,
  UseInterceptors,
  UsePipes,
} from '@nestjs/common';
import { Payload } from '@nestjs/microservices';
import { map, type Observable, of, tap, throwError } from 'rxjs';
import type { MigrationInterface, QueryRunner } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Bus } from './bus.js';
import { baseConfig } from './config.js';
import type { Sql } from './database.js';
import type { Effect } from './effects.js';
import { Answers, Consumes, Handles } from './handlers.js';
import { ensureEventStream } from './event-stream.js';
import type { ReceivedEvent } from './received-event.js';
import { CallContext, type EventContext } from './message-context.js';
import type { RunningService } from './service.js';
import { type TestEnvironment, openTestEnvironment, publishEvent, until } from './testing/index.js';
import { newThing, quiet } from './things.fixture.js';

/** What ran, in order. */
const trail: string[] = [];
/** What the guard lets through. */
const gate = { open: true };

class NotOfTheCatalogue extends Error {}

@Injectable()
class Guard implements CanActivate {
  canActivate(execution: ExecutionContext): boolean {
    const context = execution.switchToRpc().getContext<CallContext | EventContext>();
    const what = context instanceof CallContext ? context.call.kind : context.subscription.durable;
    trail.push(`guard of ${execution.getType()} ${what}`);
    return gate.open;
  }
}

@Injectable()
class Wrap implements NestInterceptor {
  intercept(_execution: ExecutionContext, next: CallHandler): Observable<unknown> {
    trail.push('before');
    return next.handle().pipe(
      tap(() => trail.push('after')),
      map((answer: object | undefined) => answer && { ...answer, mac: '52:54:00:ff:ff:ff' }),
    );
  }
}

class Mark implements PipeTransform {
  transform(value: object): unknown {
    trail.push('pipe');
    return { ...value, marked: true };
  }
}

/** Is run for each parameter, as any pipe of Nest's that is bound to a method. */
class Only implements PipeTransform {
  transform(value: unknown): unknown {
    if (!Array.isArray(value)) return value;
    trail.push('pipe');
    return (value as ReceivedEvent[]).filter(({ data }) => data['name'] !== 'unwanted');
  }
}

@Catch(NotOfTheCatalogue)
class Conflict implements RpcExceptionFilter {
  catch(error: Error): Observable<never> {
    trail.push('filter');
    return throwError(() => new M2Error('boot.conflict', `filtered: ${error.message}`));
  }
}

/** An event that can never be taken in is not to come again. */
@Catch(NotOfTheCatalogue)
class Forget implements RpcExceptionFilter {
  catch(_error: Error, host: ArgumentsHost): Observable<unknown> {
    trail.push(`filter of ${host.switchToRpc().getContext<EventContext>().subscription.durable}`);
    return of(undefined);
  }
}

const config = (id: string, project: string): BootConfig => ({
  id,
  project,
  provision: id,
  node: id,
  mac: '52:54:00:00:00:01',
  exportId: id,
  state: 'armed',
  report: null,
  createdAt: new Date().toISOString(),
  scriptServedAt: null,
  bootedAt: null,
});

/** A thing that is its own project is one that the handler cannot stand. */
const handle = ({ configId, project, ...more }: { configId: string; project: string; marked?: boolean }) => {
  trail.push(`handler of what is ${more.marked ? 'marked' : 'not marked'}`);
  if (configId === project) throw new NotOfTheCatalogue('its own project');
  return config(configId, project);
};

@Controller()
@UseGuards(Guard)
@UseInterceptors(Wrap)
@UseFilters(Conflict)
class Things {
  @Answers(bootConfigShow)
  async show(@Payload(new Mark()) request: RequestOf<typeof bootConfigShow>): Promise<BootConfig> {
    return handle(request);
  }

  @Handles(bootConfigCreate)
  async create(@Payload(new Mark()) request: RequestOf<typeof bootConfigCreate>, effect: Effect): Promise<BootConfig> {
    const made = handle(request);
    return effect.commit(async () => made);
  }

  @Handles(bootConfigDelete)
  delete(_request: RequestOf<typeof bootConfigDelete>, effect: Effect) {
    return effect.commit(async () => ({}));
  }
}

@Controller()
@UseGuards(Guard)
@UseInterceptors(Wrap)
@UsePipes(Only)
class Events {
  @Consumes({ durable: 'boot-test', of: imageDeleted })
  @UseFilters(Forget)
  async take(events: ReceivedEvent[], sql: Sql): Promise<void> {
    trail.push('handler');
    for (const { id, data } of events) {
      if (data['name'] === 'broken') throw new NotOfTheCatalogue('never');
      await sql.query('INSERT INTO taken VALUES ($1, $2)', [id, data['name']]);
    }
  }
}

class Taken1795000000098 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE TABLE taken (event uuid PRIMARY KEY, name text)');
  }
  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE taken');
  }
}

@Module({ controllers: [Things, Events] })
class PipelineModule {}

let env: TestEnvironment;
let bus: Bus;
let service: RunningService;

beforeAll(async () => {
  env = await openTestEnvironment();
  bus = await env.bus();
  // The service waits for the stream, which the gateway makes.
  await ensureEventStream(bus);
  const definition = { name: 'boot' as const, config: baseConfig, module: PipelineModule, entities: [] };
  service = await env.run({ ...definition, migrations: [Taken1795000000098] }, {}, quiet);
  // It has said that it has come, and that was heard: what is under way when it is heard is asked twice.
  await service.kit.bus.ping();
  await bus.ping();
});
afterAll(() => env?.close());
beforeEach(() => {
  trail.length = 0;
  gate.open = true;
});

const sql = <Row extends object>(text: string) => service.kit.database.query<Row>(text);
const show = (configId: string, project: string) =>
  bus.request(bootConfigShow, { configId, project }, { deadlineMs: 5_000 });
const create = (input = newThing(), effect = `${uuidv7()}/arm/do`, fence = 1) =>
  bus.request(bootConfigCreate, input, { deadlineMs: 5_000, effect, fence });
const wrapped = { mac: '52:54:00:ff:ff:ff' };

describe('a query', () => {
  it('goes through guard, interceptor and pipe, and its answer back through the interceptor', async () => {
    await expect(show(uuidv7(), uuidv7())).resolves.toMatchObject(wrapped);
    expect(trail).toEqual(['guard of rpc query', 'before', 'pipe', 'handler of what is marked', 'after']);
  });

  it('that a guard refuses is answered as forbidden, and reaches nothing else', async () => {
    gate.open = false;
    await expect(show(uuidv7(), uuidv7())).rejects.toMatchObject({ code: 'auth.forbidden' });
    expect(trail).toEqual(['guard of rpc query']);
  });

  it('that fails is answered with what an exception filter makes of the error', async () => {
    const id = uuidv7();
    const refusal = { code: 'boot.conflict', detail: 'filtered: its own project' };
    await expect(show(id, id)).rejects.toMatchObject(refusal);
    expect(trail.at(-1)).toBe('filter');
  });

  it('that is not of the contract does not come as far as a guard', async () => {
    await expect(show('no uuid', uuidv7())).rejects.toMatchObject({ code: 'request.invalid' });
    expect(trail).toEqual([]);
  });
});

describe('a command', () => {
  it('goes through guard, interceptor and pipe; the answer from the record through guard and interceptor', async () => {
    const input = newThing();
    const effect = `${uuidv7()}/arm/do`;
    const first = await create(input, effect);
    expect(first).toMatchObject({ id: input.configId, ...wrapped });
    expect(trail).toEqual(['guard of rpc command', 'before', 'pipe', 'handler of what is marked', 'after']);
    trail.length = 0;
    expect(await create(input, effect)).toEqual(first);
    expect(trail).toEqual(['guard of rpc command', 'before', 'after']);
  });

  it('that a guard refuses is answered as forbidden, and its fence does not count', async () => {
    const input = newThing();
    const operation = uuidv7();
    gate.open = false;
    await expect(create(input, `${operation}/arm/do`, 99)).rejects.toMatchObject({ code: 'auth.forbidden' });
    expect(trail).toEqual(['guard of rpc command']);
    expect(await sql(`SELECT 1 FROM m2_fences WHERE operation = '${operation}'`)).toEqual([]);
    gate.open = true;
    await expect(create(input, `${operation}/arm/do`, 1)).resolves.toMatchObject({ id: input.configId });
  });

  it('that fails is answered with what an exception filter makes of the error, and is not on record', async () => {
    const id = uuidv7();
    const effect = `${uuidv7()}/arm/do`;
    const refusal = { code: 'boot.conflict', detail: 'filtered: its own project' };
    await expect(create({ ...newThing(), configId: id, project: id }, effect)).rejects.toMatchObject(refusal);
    expect(trail.at(-1)).toBe('filter');
    expect(await sql(`SELECT 1 FROM m2_effects WHERE key = '${effect}'`)).toEqual([]);
  });
});

const publish = async (name: string) => {
  const id = uuidv7();
  await publishEvent(bus, imageDeleted, { id, project: id, name });
};
const taken = async () => (await sql<{ name: string }>('SELECT name FROM taken ORDER BY name')).map(({ name }) => name);
const delivered = (what: string) => until(`it was in the ${what}`, () => trail.some((step) => step.startsWith(what)));

describe('an event', () => {
  beforeEach(() => sql('TRUNCATE taken'));

  it('goes through guard, interceptor and pipe, within its transaction', async () => {
    await publish('wanted');
    await until('it is in', async () => (await taken()).length > 0);
    expect(trail).toEqual(['guard of rpc boot-test', 'before', 'pipe', 'handler', 'after']);
    trail.length = 0;
    await publish('unwanted');
    await delivered('after');
    expect(trail).toContain('pipe');
    expect(await taken()).toEqual(['wanted']);
  });

  it('that a guard refuses is not taken in, and comes again', async () => {
    gate.open = false;
    await publish('later');
    await delivered('guard');
    expect(trail).not.toContain('handler');
    gate.open = true;
    await until('it is in', async () => (await taken()).includes('later'));
  });

  it('that fails is what an exception filter makes of it: here, taken in and forgotten', async () => {
    await publish('broken');
    await delivered('filter of boot-test');
    await publish('next');
    await until('the next is in', async () => (await taken()).includes('next'));
    expect(trail.filter((step) => step.startsWith('filter'))).toHaveLength(1);
  });
});
