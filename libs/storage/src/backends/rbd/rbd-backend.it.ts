import { ownCeph } from '@m2/lab/testing';
import { describeStorageBackend } from '../../storage.conformance.js';
import { CephGround } from './rbd-backend.fixture.js';

describeStorageBackend('RBD, a cluster of one node', async () => {
  const ground = await CephGround.open(ownCeph);
  return {
    open: () => ground.backend(),
    io: { open: (store) => ground.open(store) },
    foreign: ground.foreign,
    // A cluster is full at once, however much space is free.
    fill: { leave: () => ground.ceph.setFull(), undo: () => ground.ceph.unsetFull() },
    teardown: () => ground.close(),
  };
});
