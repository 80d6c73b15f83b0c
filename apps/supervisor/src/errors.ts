/** Why the embedded M2 could not do what was asked. `message` says what is wrong, `remedy` what to do next. */
export class SupervisorError extends Error {
  override readonly name: string = 'SupervisorError';

  constructor(
    readonly code:
      | 'supervisor.already_running'
      | 'supervisor.bad_option'
      | 'supervisor.child_failed'
      | 'supervisor.not_ready'
      | 'supervisor.packages_missing'
      | 'supervisor.port_taken'
      | 'supervisor.program_missing'
      | 'supervisor.state_unusable'
      | 'supervisor.stopped'
      | 'supervisor.stuck',
    message: string,
    readonly remedy: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A supervisor lives on this state directory already. */
export class AlreadyRunningError extends SupervisorError {
  override readonly name = 'AlreadyRunningError';

  constructor(readonly state: string) {
    super(
      'supervisor.already_running',
      `M2 runs already on ${state}`,
      'See it with m2 status, stop it with m2 down, or give another directory with --state and another --port.',
    );
  }
}
