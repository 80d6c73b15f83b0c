import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { run } from '../process/run.js';
import { buildLabImage } from './build-lab-image.js';

describe('buildLabImage', () => {
  let cache: string;

  beforeEach(async () => {
    cache = await mkdtemp(join(tmpdir(), 'm2-lab-image-'));
  });

  afterEach(() => rm(cache, { recursive: true }));

  it('builds one whole image for all who ask at once', async () => {
    const images = await Promise.all([buildLabImage(cache), buildLabImage(cache), buildLabImage(cache)]);
    expect(images.map((image) => image.built).sort()).toEqual([false, false, true]);
    expect(new Set(images.map((image) => image.path)).size).toBe(1);

    const [image] = images;
    const content = await readFile(image!.path);
    expect(content.length).toBe(image!.bytes);
    expect(createHash('sha256').update(content).digest('hex')).toBe(image!.sha256);
    const { blocks } = await stat(image!.path);
    expect(blocks * 512, 'the image is sparse').toBeLessThan(image!.bytes / 2);
    const table = JSON.parse(await run('sfdisk', ['--json', image!.path])) as {
      partitiontable: { label: string; partitions: { name: string }[] };
    };
    expect(table.partitiontable.label).toBe('gpt');
    expect(table.partitiontable.partitions.map((part) => part.name)).toEqual(['m2-grub', 'm2-efi', 'm2-root']);
  });
});
