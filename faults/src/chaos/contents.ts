import type { M2Client } from '@m2/cli';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { startImageServer, type ImageServer } from '../image-server.js';
import type { TestInstallation } from '../installation.js';
import { NodeDisk } from '../node-disk.js';
import { sql } from '../observed-state.js';

const MiB = 2 ** 20;
const sector = 512;
/** The part of a disk that is written and compared. All images have one. */
const region = { at: 4 * MiB, length: 8 * MiB };
const imageSize = region.at + region.length;
const betweenStampsMs = 400;
/** Room for those that are made when all is quiet. */
const lastStamps = 100;
/** Longer than a service is paused between the begin of a transaction, which is an event's time, and its end. */
const slackMs = 30_000;

/** Milliseconds of this machine's clock, which the database's times are compared with. */
// oxlint-disable-next-line no-restricted-properties -- the database's times are of it
const wallClock = () => Date.now();

/** The bytes that one write puts into a sector of its own. Times are of `wallClock`. */
interface Stamp {
  volume: string;
  begun: number;
  /** When it was flushed: from then on nothing may lose it. */
  kept?: number;
}

/** When something was copied: not before `from`, and not after `to`. */
interface Moment {
  from: number;
  to: number;
}

/** What something may consist of: one of the first contents, all stamps of `must`, and others only from `may`. */
interface Expected {
  bases: Set<string>;
  must: Set<number>;
  may: Set<number>;
}

type Source = { kind: 'image'; image: string } | { kind: 'disk'; disk: string; tag?: string };

/** What became of volumes, from the events, which stay when the rows are gone. Times in ms. */
interface History {
  disks: { disk: string; volume: string; at: number; begun: number; from: Source }[];
  tags: ({ tag: string; disk: string } & Moment)[];
  images: ({ image: string; source: Source | { kind: 'file' } | { kind: 'url'; url: string } } & Moment)[];
}

const ms = (time: string) => `(extract(epoch FROM ${time}) * 1000)::float8`;
const historyQuery = `SELECT json_build_object(
  'disks', (SELECT coalesce(json_agg(d ORDER BY d.sequence), '[]') FROM (
    SELECT b.sequence, b.data->>'id' AS disk, b.data->>'volume' AS volume, ${ms('b.created_at')} AS at,
      coalesce((SELECT min(${ms('o.created_at')}) FROM m2_gateway.operations o
        WHERE o.kind IN ('disk.create', 'provision') AND o.about->>'disk' = b.data->>'id'), 0) AS begun,
      coalesce(b.data->'from', json_build_object('kind', 'disk', 'disk', b.data->>'id', 'tag', b.data->>'tag')::jsonb) AS from
    FROM m2_image.m2_outbox b WHERE b.type IN ('image.disk.created', 'image.disk.rolled-back')) d),
  'tags', (SELECT coalesce(json_agg(t), '[]') FROM (
    SELECT b.data->>'tag' AS tag, b.data->>'id' AS disk, ${ms('b.created_at')} AS to,
      coalesce((SELECT min(${ms('o.created_at')}) FROM m2_gateway.operations o
        WHERE o.kind = 'disk.tag' AND o.about->>'tag' = b.data->>'tag'), 0) AS from
    FROM m2_image.m2_outbox b WHERE b.type = 'image.disk.tagged') t),
  'images', (SELECT coalesce(json_agg(i), '[]') FROM (
    SELECT m.id AS image, m.source, ${ms('b.created_at')} AS to,
      coalesce((SELECT min(${ms('o.created_at')}) FROM m2_gateway.operations o
        WHERE o.kind = 'image.import' AND o.about->>'image' = m.id::text), 0) AS from
    FROM (SELECT o.about->>'image' AS id, o.input->'source' AS source FROM m2_gateway.operations o WHERE o.kind = 'image.import') m
    JOIN m2_image.m2_outbox b ON b.type = 'image.image.imported' AND b.entity = m.id) i))`;

/**
 * The bytes of the run's images and disks. Every image has a content of its own. Nodes write stamps over iSCSI, each into a sector that
 * nobody else writes, so what a disk has tells what it was made from and when. Which volume a stamp is in is told by the target that took it.
 */
export class Contents {
  private readonly stamps: Stamp[] = [];
  private readonly bases = new Map<string, Buffer>();
  private writers: Promise<void>[] = [];
  private stopping = false;

  private constructor(
    private readonly server: ImageServer,
    private readonly directory: string,
  ) {}

  /** Serves an image for every name, each with other bytes. */
  static async start(names: string[]): Promise<Contents> {
    const images = new Map(names.map((name, at) => [`/${name}`, Buffer.alloc(imageSize, at + 1)]));
    const server = await startImageServer(
      Object.fromEntries([...images].map(([path, bytes]) => [path, (response) => response.end(bytes)])),
    );
    const contents = new Contents(server, await mkdtemp(join(tmpdir(), 'm2-stamps-')));
    for (const [path, bytes] of images)
      contents.bases.set(server.url(path), bytes.subarray(region.at, region.at + region.length));
    return contents;
  }

  url(name: string): string {
    return this.server.url(`/${name}`);
  }

  /** Writes stamps into whatever the nodes have, until `rest`. */
  async write(installation: TestInstallation): Promise<void> {
    const golden = await open(installation.stage.image.path);
    try {
      this.bases.set('golden', (await golden.read(Buffer.alloc(region.length), 0, region.length, region.at)).buffer);
    } finally {
      await golden.close();
    }
    this.writers = installation.stage.nodes.map(async (_, place) => {
      while (!this.stopping && (this.stamps.length + lastStamps) * sector < region.length) {
        await this.stamp(installation, place, 1).catch(() => {});
        await pause(betweenStampsMs);
      }
    });
  }

  async rest(): Promise<void> {
    this.stopping = true;
    await Promise.all(this.writers);
  }

  async close(): Promise<void> {
    await this.rest();
    await this.server.close();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Throws when the node has no disk for so long, or cannot write it. */
  async stamp(installation: TestInstallation, place: number, patienceMs: number): Promise<void> {
    const disk = await NodeDisk.of(installation, place, patienceMs);
    const number = this.stamps.length;
    if ((number + 1) * sector > region.length) return;
    const stamp: Stamp = { volume: disk.volume, begun: wallClock() };
    this.stamps.push(stamp);
    const file = join(this.directory, `stamp-${number}`);
    try {
      await writeFile(file, bytesOf(number));
      await disk.put(file, region.at + number * sector, sector);
      stamp.kept = wallClock();
    } finally {
      await rm(file, { force: true });
    }
  }

  /** How many stamps no crash may lose. */
  get kept(): number {
    return this.stamps.filter(({ kept }) => kept !== undefined).length;
  }

  /** Images, and disks that nobody holds, and their tags, whose bytes are not what their history says. */
  async wrong(installation: TestInstallation, projects: string[]): Promise<string[]> {
    const model = new Model(await sql<History>(installation, historyQuery), this.stamps);
    const { client } = installation;
    const now: Moment = { from: wallClock(), to: wallClock() };
    const found: string[] = [];
    const range = `bytes=${region.at}-${region.at + region.length - 1}`;
    const compare = async (what: string, expected: Expected, answer: ReturnType<M2Client['download']>) => {
      const bytes = Buffer.from(await (await answer).arrayBuffer());
      found.push(...this.differences(bytes, expected).map((difference) => `${what} ${difference}`));
    };
    for (const project of projects) {
      const params = { project };
      for (const { id, name } of (await client.list('imageList', { params })).items)
        await compare(
          `image ${name} ${id}`,
          model.image(id),
          client.download('imageContent', { params: { project, image: id } }, { range }),
        );
      for (const { id, name, volume } of (await client.list('diskList', { params })).items) {
        const disk = { project, disk: id };
        const what = `disk ${name} ${id} (${volume})`;
        await compare(what, model.volume(volume, now), client.download('diskContent', { params: disk }, { range }));
        for (const tag of (await client.list('diskTags', { params: disk })).items)
          if (!tag.automatic)
            await compare(
              `tag ${tag.name} ${tag.id} of ${what}`,
              model.tag(tag.id),
              client.download('diskContent', { params: disk, query: { tag: tag.name } }, { range }),
            );
      }
    }
    return found;
  }

  private differences(bytes: Buffer, { bases, must, may }: Expected): string[] {
    if (bytes.length !== region.length) return [`has ${bytes.length} bytes where ${region.length} were asked for`];
    const known = [...bases].map((name) => ({
      name,
      content: this.bases.get(name) ?? Buffer.alloc(0),
      wrong: [] as number[],
    }));
    if (known.length === 0) return ['comes from nothing that is known'];
    const [lost, strange]: [number[], number[]] = [[], []];
    for (let at = 0, number = 0; at < region.length; at += sector, number += 1) {
      const here = bytes.subarray(at, at + sector);
      if (number < this.stamps.length && here.equals(bytesOf(number))) {
        if (!may.has(number)) strange.push(number);
      } else if (must.has(number)) lost.push(number);
      else
        for (const { content, wrong } of known) if (!here.equals(content.subarray(at, at + sector))) wrong.push(number);
    }
    const told = (list: number[]) => list.map((number) => `${number} in ${this.stamps[number]!.volume}`).join(', ');
    const closest = known.toSorted((a, b) => a.wrong.length - b.wrong.length)[0]!;
    return [
      ...(lost.length > 0 ? [`lost stamps ${told(lost)}`] : []),
      ...(strange.length > 0 ? [`has stamps of others: ${told(strange)}`] : []),
      ...(closest.wrong.length > 0 ? [`differs from ${closest.name} in ${closest.wrong.length} sectors`] : []),
    ];
  }
}

const bytesOf = (number: number) => Buffer.alloc(sector, `chaos stamp ${number} `);

/** What must be in what, as the events tell. */
class Model {
  constructor(
    private readonly history: History,
    private readonly stamps: Stamp[],
  ) {}

  volume(volume: string, { from, to }: Moment): Expected {
    const made = this.history.disks.find((each) => each.volume === volume);
    if (!made) return nothing();
    const base = this.source(made.from, { from: made.begun, to: made.at });
    for (const [number, stamp] of this.stamps.entries()) {
      if (stamp.volume !== volume || stamp.begun > to) continue;
      base.may.add(number);
      if (stamp.kept !== undefined && stamp.kept < from) base.must.add(number);
    }
    return base;
  }

  tag(id: string): Expected {
    const tag = this.history.tags.find((each) => each.tag === id);
    return tag ? this.disk(tag.disk, tag) : nothing();
  }

  image(id: string): Expected {
    const image = this.history.images.find((each) => each.image === id);
    if (!image) return nothing();
    const { source } = image;
    if (source.kind === 'file') return { ...nothing(), bases: new Set(['golden']) };
    if (source.kind === 'url') return { ...nothing(), bases: new Set([source.url]) };
    return this.source(source, image);
  }

  private source(source: Source, moment: Moment): Expected {
    if (source.kind === 'image') return this.image(source.image);
    return source.tag ? this.tag(source.tag) : this.disk(source.disk, moment);
  }

  /** A disk that was rolled back about then may have been either volume. */
  private disk(disk: string, moment: Moment): Expected {
    const volumes = this.history.disks.filter((each) => each.disk === disk);
    const then = volumes.filter(
      ({ at }, place) => at <= moment.to && (volumes[place + 1]?.at ?? Infinity) + slackMs >= moment.from,
    );
    const all = then.map(({ volume }) => this.volume(volume, moment));
    return {
      bases: new Set(all.flatMap(({ bases }) => [...bases])),
      may: new Set(all.flatMap(({ may }) => [...may])),
      must: new Set([...(all[0]?.must ?? [])].filter((number) => all.every(({ must }) => must.has(number)))),
    };
  }
}

const nothing = (): Expected => ({ bases: new Set(), must: new Set(), may: new Set() });
