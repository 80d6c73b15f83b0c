import { type BootConfig, bootConfigCreate, bootConfigDelete, bootConfigShow, type RequestOf } from '@m2/contracts';
import { Answers, baseConfig, type Effect, Handles, type Kit, KIT, runService } from '@m2/service-kit';
import { Controller, Inject, Module, type OnModuleInit } from '@nestjs/common';

/** A subject that is answered without the kit: what NATS and JSON alone cost. */
const bareSubject = 'm2.bench.bare';

const configOf = ({ configId, project }: RequestOf<typeof bootConfigShow>): BootConfig => ({
  id: configId,
  project,
  provision: configId,
  node: configId,
  mac: '52:54:00:00:00:01',
  exportId: configId,
  state: 'armed',
  report: null,
  createdAt: '2026-01-01T00:00:00.000Z',
  scriptServedAt: null,
  bootedAt: null,
});

/** Handlers that do nothing, so that what is measured is the way to them and back. */
@Controller()
class Nothing implements OnModuleInit {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  onModuleInit(): void {
    this.kit.bus.connection.subscribe(bareSubject, {
      callback: (_error, message) => {
        const value = configOf(message.json());
        message.respond(JSON.stringify({ ok: true, value }));
      },
    });
  }

  @Answers(bootConfigShow)
  async show(request: RequestOf<typeof bootConfigShow>): Promise<BootConfig> {
    return configOf(request);
  }

  @Handles(bootConfigCreate)
  create(request: RequestOf<typeof bootConfigCreate>, effect: Effect): Promise<BootConfig> {
    return effect.commit(async () => configOf(request));
  }

  @Handles(bootConfigDelete)
  delete(_request: RequestOf<typeof bootConfigDelete>, effect: Effect) {
    return effect.commit(async () => ({}));
  }
}

@Module({ controllers: [Nothing] })
class NothingModule {}

// Whoever started it asks what it has used so far.
process.on('message', () => process.send!(process.cpuUsage()));

await runService({ name: 'boot', config: baseConfig, module: NothingModule, migrations: [], entities: [] });
