/** librbd in this very process, without the child and its deadlines: what the benchmark compares the client with. */
export { Cluster } from './child/cluster.ts';
export { operations } from './child/operations.ts';
