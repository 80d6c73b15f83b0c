import type { RbdClient } from '@m2/rbd';
import { isRbd, ignoring } from './errors.js';
import type { ImageLocations } from './names.js';

/**
 * What a project has beside its volumes: an RBD namespace for its disks, and a cephx user that targets open them as, which can do nothing
 * outside. Created with the first disk.
 */
export class Projects {
  /** Those that are known to exist. They stay as long as the project has disks. */
  private readonly made = new Map<string, Promise<void>>();

  constructor(
    private readonly rbd: RbdClient,
    private readonly locations: ImageLocations,
    /** The service's own user. It may manage users whose name begins with its own. */
    private readonly serviceUser: string,
  ) {}

  /** A project's cephx user, without "client.". */
  user(project: string): string {
    return `${this.serviceUser}.${project}`;
  }

  ensure(project: string): Promise<void> {
    let making = this.made.get(project);
    if (!making) {
      making = this.make(project);
      this.made.set(project, making);
      making.catch(() => this.made.delete(project));
    }
    return making;
  }

  /**
   * For a namespace that exists and takes no images: librbd was killed between the two steps of creating or removing it
   * (librbd/api/Namespace.cc). One that has images is complete, and refuses to be removed.
   */
  async remake(project: string): Promise<void> {
    this.made.delete(project);
    await ignoring('busy', ignoring('not_found', this.rbd.namespaceRemove(this.locations.diskPool, project)));
    await this.ensure(project);
  }

  /** The namespace first, because it refuses while there are disks, and they need their user. Error `busy`. */
  async ensureNo(project: string): Promise<void> {
    this.made.delete(project);
    await ignoring('not_found', this.rbd.namespaceRemove(this.locations.diskPool, project));
    await this.rbd.monCommand({ prefix: 'auth rm', entity: `client.${this.user(project)}` });
  }

  private async make(project: string): Promise<void> {
    const { diskPool } = this.locations;
    await Promise.all([ignoring('exists', this.rbd.namespaceCreate(diskPool, project)), this.makeUser(project)]);
  }

  private async makeUser(project: string): Promise<void> {
    const { diskPool, imagePool } = this.locations;
    const osd = `profile rbd pool=${diskPool} namespace=${project}, profile rbd-read-only pool=${imagePool}`;
    const user = { entity: `client.${this.user(project)}`, caps: ['mon', 'profile rbd', 'osd', osd] };
    try {
      // The answer has the user's key, which is not needed here.
      await this.rbd.monCommand({ prefix: 'auth get-or-create', ...user });
    } catch (error) {
      // The user has other capabilities: those of an earlier version, or from before the pools were changed.
      if (!isRbd(error, 'invalid')) throw error;
      await this.rbd.monCommand({ prefix: 'auth caps', ...user });
    }
  }
}
