import type { OperationKind } from '@m2/contracts';
import type { TestInstallation } from '../installation.js';
import { sql } from '../observed-state.js';

/** A kind of things that come and go, each time with an event; what is there is in a table. */
interface Things {
  what: string;
  came: string;
  went: string;
  /** The field of both events that tells one from another. */
  of: string;
  /** It goes with its disk, without an event of its own. */
  ofDisk?: true;
  /** SQL: those that are there. */
  there: string;
}

const things: Things[] = [
  {
    what: 'disk',
    came: 'image.disk.created',
    went: 'image.disk.deleted',
    of: 'id',
    there: 'SELECT id FROM m2_image.disks',
  },
  {
    what: 'disk in the trash',
    came: 'image.disk.trashed',
    went: 'image.disk.restored',
    of: 'id',
    ofDisk: true,
    there: `SELECT id FROM m2_image.disks WHERE state = 'trashed'`,
  },
  {
    what: 'tag',
    came: 'image.disk.tagged',
    went: 'image.disk.untagged',
    of: 'tag',
    ofDisk: true,
    there: 'SELECT id FROM m2_image.tags WHERE NOT automatic',
  },
  {
    what: 'image',
    came: 'image.image.imported',
    went: 'image.image.deleted',
    of: 'id',
    there: 'SELECT id FROM m2_image.images',
  },
  {
    what: 'holder of a disk',
    came: 'image.disk.attached',
    went: 'image.disk.detached',
    of: 'holder',
    there: 'SELECT holder AS id FROM m2_image.disks WHERE holder IS NOT NULL',
  },
  {
    what: 'export',
    came: 'iscsi.export.created',
    went: 'iscsi.export.deleted',
    of: 'id',
    there: 'SELECT id FROM m2_iscsi.exports',
  },
  {
    what: 'holder of a node',
    came: 'hil.node.reserved',
    went: 'hil.node.released',
    of: 'holder',
    there: 'SELECT holder AS id FROM m2_hil.nodes WHERE holder IS NOT NULL',
  },
  {
    what: 'holder of a node in a network',
    came: 'hil.network.attached',
    went: 'hil.network.detached',
    of: 'holder',
    there: 'SELECT n.holder AS id FROM m2_hil.nodes n JOIN m2_hil.nics c ON c.node = n.id WHERE c.network IS NOT NULL',
  },
  {
    what: 'holder of a node that is on',
    came: 'hil.power.on',
    went: 'hil.power.off',
    of: 'holder',
    there: `SELECT id FROM m2_gateway.provisions WHERE ended_at IS NULL AND state = 'ready'`,
  },
];

interface Told {
  type: string;
  data: Record<string, string>;
}

interface Asked {
  id: string;
  kind: OperationKind;
  state: string;
  about: Record<string, string>;
  makes: boolean;
  removes: boolean;
  wasAway: boolean;
}

/** By kinds of operations: what they are about when they make or remove one of the things. */
const about: Partial<Record<OperationKind, 'disk' | 'tag' | 'image'>> = {
  'disk.create': 'disk',
  'disk.delete': 'disk',
  provision: 'disk',
  deprovision: 'disk',
  'disk.tag': 'tag',
  'disk.untag': 'tag',
  'image.import': 'image',
  'image.delete': 'image',
};

/** SQL: the image was another project's for a while. Who looked for it here meanwhile found nothing. */
const wasAway = `EXISTS (SELECT 1 FROM m2_image.m2_outbox b
  WHERE b.type = 'image.image.updated' AND b.data->>'id' = o.about->>'image' AND b.data->>'project' <> o.project::text)`;

const query = `SELECT json_build_object(
  'told', (SELECT coalesce(json_agg(json_build_object('type', type, 'data', data) ORDER BY sequence), '[]') FROM (
    SELECT sequence, type, data FROM m2_image.m2_outbox UNION ALL SELECT sequence, type, data FROM m2_iscsi.m2_outbox
    UNION ALL SELECT sequence, type, data FROM m2_hil.m2_outbox) o),
  'there', json_build_object(${things.map(({ what, there }) => `'${what}', ARRAY(${there})`).join(', ')}),
  'asked', (SELECT coalesce(json_agg(a), '[]') FROM (
    SELECT id, kind, state, about,
      kind IN ('disk.create', 'disk.tag', 'image.import') OR kind = 'provision' AND input->>'image' IS NOT NULL AS makes,
      kind IN ('disk.untag', 'image.delete') OR kind = 'disk.delete' AND (input->>'purge')::boolean
        OR kind = 'deprovision' AND (input->>'deleteDisk')::boolean AS removes, ${wasAway} AS "wasAway"
    FROM m2_gateway.operations o) a))`;

/**
 * What was asked for, what was told, and what is there are three records of the same, written by different services in different transactions.
 * Returns where they disagree.
 */
export async function comingsAndGoings(installation: TestInstallation): Promise<string[]> {
  const { told, there, asked } = await sql<{ told: Told[]; there: Record<string, string[]>; asked: Asked[] }>(
    installation,
    query,
  );
  const gone = new Set(told.flatMap(({ type, data }) => (type === 'image.disk.deleted' ? [data['id']] : [])));
  return things.flatMap((each) => {
    const present = new Set(there[each.what]);
    const tales = new Map<string, Told[]>([...present].map((id) => [id, []]));
    for (const event of told)
      if (event.type === each.came || event.type === each.went) {
        const id = event.data[each.of]!;
        tales.set(id, [...(tales.get(id) ?? []), event]);
      }
    const relevant = [...tales].filter(([, tale]) => !(each.ofDisk && gone.has(tale.at(-1)?.data['id'])));
    return [
      ...relevant.flatMap(([id, tale]) => untrue(each, id, tale, present.has(id))),
      ...unasked(each, tales, present, asked),
    ];
  });
}

/** What comes is told of once before it goes, and the other way round. What was never complete may go without having come. */
function untrue({ what, came }: Things, id: string, tale: Told[], isThere: boolean): string[] {
  const types = tale.map(({ type }) => type);
  const told = `it was told of as ${types.join(', ') || 'nothing'}`;
  const twice = types.some((type, at) => at > 0 && type === types[at - 1]);
  return [
    ...(twice ? [`${what} ${id}: ${told}: the same twice`] : []),
    ...((types.at(-1) === came) === isThere ? [] : [`${what} ${id} is ${isThere ? '' : 'not '}there, but ${told}`]),
  ];
}

function unasked(
  { what, came, went }: Things,
  tales: Map<string, Told[]>,
  present: Set<string>,
  asked: Asked[],
): string[] {
  const concerned = asked.filter(({ kind }) => about[kind] === what);
  if (concerned.length === 0) return [];
  const of = (operation: Asked) => operation.about[what]!;
  const name = ({ kind, id, state }: Asked) => `${kind} ${id} ${state}`;
  const tells = (id: string, type: string) => (tales.get(id) ?? []).some((event) => event.type === type);
  const isStillHere = (each: Asked) => present.has(of(each)) && !(what === 'image' && each.wasAway);
  const takenBack = ({ state }: Asked) => state === 'failed' || state === 'cancelled';
  const mayGo = new Set(
    concerned.filter((each) => each.removes || (each.makes && takenBack(each))).map((each) => of(each)),
  );
  return [
    ...concerned
      .filter((each) => each.makes && takenBack(each) && isStillHere(each))
      .map((each) => `${name(each)}, and its ${what} ${of(each)} is there`),
    ...concerned
      .filter((each) => each.makes && each.state === 'succeeded' && !tells(of(each), came))
      .map((each) => `${name(each)}, and nothing told of its ${what} ${of(each)}`),
    ...concerned
      .filter((each) => each.removes && each.state === 'succeeded' && isStillHere(each))
      .map((each) => `${name(each)}, and its ${what} ${of(each)} is still there`),
    ...[...tales.keys()]
      .filter((id) => tells(id, went) && !mayGo.has(id))
      .map((id) => `${what} ${id} went, and nobody had asked for that`),
  ];
}
