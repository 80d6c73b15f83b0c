export { type Answer, type Call, type ClientOptions, M2Client } from './client.js';
export { ApiError, CliError, UnreachableError } from './errors.js';
export { exitCodes } from './exit-codes.js';
export { run } from './program.js';
export { closeStage, type Stage, type StageOptions, startStage, untilEnded } from './stage/stage.js';
export { Exit, type World } from './world.js';
