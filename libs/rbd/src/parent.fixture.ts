import { RbdClient } from './rbd-client.ts';

/** A program with a working client that prints the process id, and waits to be killed. */
const [conf, user] = process.argv.slice(2) as [string, string];
const rbd = RbdClient.open({ conf, user });
await rbd.versions();
process.send?.(rbd.pid);
