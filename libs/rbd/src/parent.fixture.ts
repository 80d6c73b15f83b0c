import { RbdClient } from './rbd-client.ts';

/** A program that has a client at work, says which process that is, and waits to be killed. */
const [conf, user] = process.argv.slice(2) as [string, string];
const rbd = RbdClient.open({ conf, user });
await rbd.versions();
process.send?.(rbd.pid);
