import { ownCeph } from '@m2/lab/testing';
import { describeStorageBackend } from '../../storage.conformance.js';
import { TestCluster } from './rbd-backend.fixture.js';

describeStorageBackend('RBD, a cluster of one node', async () => {
  const cluster = await TestCluster.open(ownCeph);
  return {
    open: () => cluster.backend(),
    io: { open: (store) => cluster.open(store) },
    foreign: cluster.foreign,
    // A cluster is full at once, however much space is free.
    fill: { leave: () => cluster.ceph.setFull(), undo: () => cluster.ceph.unsetFull() },
    teardown: () => cluster.close(),
  };
});
