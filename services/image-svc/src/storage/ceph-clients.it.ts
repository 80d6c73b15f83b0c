import { until } from '@m2/service-kit/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openImage, type TestImage } from '../testing/image.js';
import { CephClients } from './ceph-clients.js';

let service: TestImage;
beforeAll(async () => {
  service = await openImage();
});
afterAll(() => service?.close());

/** The clients as another process of the service sees them. */
const another = () => new CephClients(service.kit.database);
/** A server takes a moment to notice that a session has ended. */
const dead = () => until('the server has noticed', async () => (await another().dead())[0]);

it('a client is dead when its process is gone, and when another one replaced it', async () => {
  const mine = another();
  await mine.add('192.0.2.1:0/1');
  expect(await another().dead()).toEqual([]);
  await mine.add('192.0.2.1:0/2');
  expect(await dead()).toBe('192.0.2.1:0/1');
  await another().remove(['192.0.2.1:0/1']);
  expect(await another().dead()).toEqual([]);
  await mine.close();
  expect(await dead()).toBe('192.0.2.1:0/2');
});

it('a client that ended in good order is forgotten', async () => {
  const mine = another();
  await mine.add('192.0.2.2:0/1');
  await mine.remove(['192.0.2.2:0/1']);
  await mine.close();
  expect(await another().dead()).not.toContain('192.0.2.2:0/1');
});
