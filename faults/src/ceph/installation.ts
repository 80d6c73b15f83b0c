import {
  askDeprovision,
  askProvision,
  startTestInstallation,
  succeeded,
  type TestInstallation,
} from '../installation.js';
import { cephOf, foreignNamespace, rbd } from './observed-ceph.js';

/** An installation on a Ceph cluster of its own, whose services can be killed at any call to the cluster. */
export async function startCephInstallation(): Promise<TestInstallation> {
  const installation = await startTestInstallation({
    nodes: 2,
    storage: 'ceph',
    mortal: ['image', 'iscsi'],
    env: { image: { M2_FOREIGN_VOLUMES: `m2-images/${foreignNamespace}`, M2_ORPHAN_GRACE_SECONDS: '20' } },
  });
  await rbd(installation, 'namespace', 'create', `${cephOf(installation).imagePool}/${foreignNamespace}`);
  // The first disk of a project makes its namespace and its user in Ceph.
  const { about } = await succeeded(installation, await askProvision(installation));
  await succeeded(installation, await askDeprovision(installation, about['provision']!));
  return installation;
}
