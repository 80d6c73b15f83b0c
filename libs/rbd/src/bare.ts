/** librbd in this process, without the child and its deadlines: the benchmark compares the client with it. */
export { Cluster } from './child/cluster.ts';
export { operations } from './child/operations.ts';
