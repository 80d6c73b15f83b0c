import { type ChildStatus, status } from '@m2/supervisor';
import { eventually, type TestInstallation } from './installation.js';

async function childOf({ stage }: TestInstallation, name: string): Promise<ChildStatus> {
  const child = (await status({ state: stage.state }))?.children.find((each) => each.name === name);
  if (!child) throw new Error(`${name} is not one of the supervisor's`);
  return child;
}

/** The process of one of the supervisor's children, when it is ready. */
export const pidOf = async (installation: TestInstallation, name: string): Promise<number> =>
  eventually(`${name} to be ready`, async () => {
    const { state, pid } = await childOf(installation, name);
    return state === 'ready' && pid !== null ? pid : undefined;
  });

/** The process of one of the supervisor's children, also when that stands still. Undefined while there is none. */
export const processOf = async (installation: TestInstallation, name: string): Promise<number | undefined> =>
  (await childOf(installation, name)).pid ?? undefined;

/** The restarts of the five services. The death of another part must not add any. */
export async function restarts({ stage }: TestInstallation): Promise<Record<string, number>> {
  const { children } = (await status({ state: stage.state }))!;
  const services = children.filter(({ name }) => !['nats', 'postgres'].includes(name));
  return Object.fromEntries(services.map((child) => [child.name, child.restarts]));
}
