import { fields } from '@m2/contracts';
import { M2Client } from '../client.js';
import { type ConnectionFlags, resolveConnection, stateDirectory } from '../config/connection.js';
import { loginPath, readLogin } from '../config/login-file.js';
import type { World } from '../world.js';

/** Who waits for a completion waits with a finger on the key. */
const deadline = 1500;

/**
 * The names that a word of this kind can be completed to, as the words of the line say where to look. Throws like any command;
 * the one who asks for completion stays silent then.
 */
export async function completeNames(world: World, kind: string, words: string[]): Promise<string[]> {
  const flags = flagsOf(words);
  if (kind === 'service') {
    const { loggedParts } = await import('@m2/supervisor');
    return loggedParts({ state: await stateDirectory(world, flags.state) });
  }
  const client = new M2Client({ ...(await resolveConnection(world, flags)), deadline, attempts: 1 });
  const project = async () => {
    const named = flags.project ?? world.env.M2_PROJECT ?? (await readLogin(loginPath(world))).project;
    return { project: named ?? (await client.call('whoami')).project ?? '' };
  };
  const names = await (async () => {
    if (kind === 'project') return (await client.list('projectList')).items.map(({ name }) => name);
    if (kind === 'node') return (await client.list('nodeList')).items.map(({ name }) => name);
    if (kind === 'operation') return (await client.list('operationList', {}, 50)).items.map(({ id }) => id);
    const params = await project();
    if (kind === 'image') return (await client.list('imageList', { params })).items.map(({ name }) => name);
    if (kind === 'disk') return (await client.list('diskList', { params })).items.map(({ name }) => name);
    if (kind === 'deleted-disk') {
      const { items } = await client.list('diskList', { params, query: { trashed: 'true' } });
      return items.flatMap(({ id, name }) => [name, id]);
    }
    if (kind === 'tag') {
      const disk = diskOf(words);
      return disk === undefined
        ? []
        : (await client.list('diskTags', { params: { ...params, disk } })).items.map(({ name }) => name);
    }
    if (kind !== 'provision') return [];
    return (await client.list('provisionList', { params })).items.flatMap(({ id, nodeName }) => [nodeName, id]);
  })();
  // The shell will read them: a gateway that is not ours gets nothing else into a command line.
  return names.filter((name) => fields.nameOrId.safeParse(name).success);
}

function valueOf(words: string[], flag: string): string | undefined {
  const index = words.findIndex((word) => word === flag || word.startsWith(`${flag}=`));
  if (index === -1) return undefined;
  return words[index]?.includes('=') ? words[index].slice(flag.length + 1) : words[index + 1];
}

/** The disk whose tag is asked for: it is named by an option, or it is the first argument of a `disk` command. */
function diskOf(words: string[]): string | undefined {
  const verb = words.indexOf('disk') + 1;
  const argument = words.slice(verb + 1).find((word) => !word.startsWith('-'));
  return valueOf(words, '--disk') ?? valueOf(words, '--from-disk') ?? (verb > 0 ? argument : undefined);
}

/** The common options among the words; of an unfinished line more cannot be asked. */
function flagsOf(words: string[]): ConnectionFlags & { project?: string } {
  const value = (flag: string) => valueOf(words, flag);
  const given = {
    // In `image import NAME --url` it is where the image comes from: our token does not go there.
    url: words.includes('import') ? undefined : value('--url'),
    tokenFile: value('--token-file'),
    state: value('--state'),
    project: value('--project'),
  };
  return Object.fromEntries(Object.entries(given).filter(([, text]) => text !== undefined));
}
