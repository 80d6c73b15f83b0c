/** For tests of sagas, and for nothing else. */
export { type Outcome, step, World } from './world.js';
