/** For tests of sagas, and for nothing else. */
export { anything, stateOfAnything } from './anything.js';
export { type Outcome, step, World } from './world.js';
