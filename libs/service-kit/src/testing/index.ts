/**
 * For tests of the services, and for nothing else: real PostgreSQL and NATS servers, a service inside the test's process,
 * and stand-ins for the services that it asks.
 */
export { answer } from './answer.js';
export { startNats, type TestNats } from './nats.js';
export { type OwnPostgres, sharedPostgres, startPostgres, type TestPostgres } from './postgres.js';
export { testRun, useTestRun } from './test-run.js';
export { type TestEnvironment, openTestEnvironment } from './environment.js';
export { publishEvent } from './publish-event.js';
export { until } from './until.js';
export { askedOften, type Scan, watchPlans } from './plans.js';
