import { M2Error } from '@m2/contracts';

/** Nobody takes what a process holds until so many seconds after its last heartbeat. `m2_lives` in migrations.ts counts the same. */
export const leaseSeconds = 15;

/** SQLSTATE of what the functions of the leases raise (see migrations.ts). */
export const leaseLostState = 'M2L01';

/** What a process held is not its own any more. Whoever asked for the work asks again, and the new owner goes on with it. */
export class LeaseLost extends M2Error {
  constructor(why: string) {
    super('service.unavailable', `${why}; what was under way goes on in another process`);
  }
}
