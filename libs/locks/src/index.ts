export { Locks } from './locks.js';
