import { type Account, startResponder } from './responder.js';

/** A process with many BMCs: its parent says who may log in, and how many there are, and is told their ports. It ends with its parent. */
process.on('message', (order: Account & { count: number }) => {
  void Promise.all(Array.from({ length: order.count }, () => startResponder(order))).then((responders) =>
    process.send?.(responders.map(({ port }) => port)),
  );
});
process.on('disconnect', () => process.exit());
