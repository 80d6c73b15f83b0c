import { fields, M2Error, type Project, projectCreated, projectDeleted } from '@m2/contracts';
import { type Kit, KIT, type Sql, violatesUnique } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';

interface Row {
  id: string;
  name: string;
  created_at: Date;
}

@Injectable()
export class Projects {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  /**
   * The project by its name or identifier, for who reaches the project `only` (null: all projects). Any other one is not there: its name
   * says something too. Throws M2Error `project.not_found`.
   */
  visible(nameOrId: string, only: string | null): Promise<Project> {
    return this.find(nameOrId, only);
  }

  /** Any project, for who may not look into it: to share with, or to copy from what it shares. Throws M2Error `project.not_found`. */
  named(nameOrId: string): Promise<Project> {
    return this.find(nameOrId, null);
  }

  private async find(nameOrId: string, only: string | null): Promise<Project> {
    // Access is decided before anything of the request was checked, and PostgreSQL takes no NUL.
    const given = fields.nameOrId.safeParse(nameOrId);
    const [row] = !given.success
      ? []
      : await this.kit.database.query<Row>(
          `SELECT * FROM projects WHERE ${fields.isId(nameOrId) ? 'id' : 'name'} = $1 AND ($2::uuid IS NULL OR id = $2)`,
          [nameOrId, only],
        );
    if (!row) throw new M2Error('project.not_found', `There is no project "${nameOrId}"`);
    return toProject(row);
  }

  async list(
    only: string | null,
    { cursor, limit }: { cursor?: string | undefined; limit: number },
  ): Promise<{ items: Project[]; next?: string }> {
    const rows = await this.kit.database.search<Row>(
      `SELECT * FROM projects WHERE ($1::uuid IS NULL OR id = $1) AND ($2::text IS NULL OR name > $2) ORDER BY name LIMIT $3`,
      [only, cursor ?? null, limit + 1],
    );
    const items = rows.slice(0, limit).map(toProject);
    return rows.length > limit ? { items, next: items.at(-1)!.name } : { items };
  }

  /** Makes a project, or finds the one that was made with this `id`. Throws M2Error `project.exists`. */
  async create(id: string, name: string): Promise<Project> {
    try {
      return await this.kit.transact(async (sql, emit) => {
        const [made] = await sql.query<Row>('SELECT * FROM projects WHERE id = $1', [id]);
        if (made) return toProject(made);
        const [row] = await sql.query<Row>('INSERT INTO projects (id, name) VALUES ($1, $2) RETURNING *', [id, name]);
        emit(projectCreated, { id: row!.id, project: row!.id, name }, { entity: row!.id, project: row!.id });
        return toProject(row!);
      });
    } catch (error) {
      if (violatesUnique(error, 'projects_name'))
        throw new M2Error('project.exists', `There is a project "${name}" already`);
      throw error;
    }
  }

  /**
   * Keeps projects from being deleted until the transaction ends. Whoever puts on record that something refers to a project holds it: the
   * project of an operation is held by its acceptance, the others that it names by this. Throws M2Error `project.not_found`.
   */
  async hold(sql: Sql, ids: string[]): Promise<void> {
    const wanted = [...new Set(ids)];
    if (wanted.length === 0) return;
    const rows = await sql.query<{ id: string }>(
      'SELECT id FROM projects WHERE id = ANY($1) ORDER BY id FOR KEY SHARE',
      [wanted],
    );
    const there = new Set(rows.map(({ id }) => id));
    const gone = wanted.find((id) => !there.has(id));
    if (gone) throw new M2Error('project.not_found', `There is no project ${gone}`);
  }

  /** The same while something is done at once, by this or another service. */
  during<T>(ids: string[], work: () => Promise<T>): Promise<T> {
    return this.kit.database.transaction(async (sql) => {
      await this.hold(sql, ids);
      return work();
    });
  }

  /**
   * Refused as long as anything refers to the project, wherever that is: `isEmpty` asks the services, and an open operation refers to every
   * project that its input names. The lock keeps whoever holds the project from recording more in between.
   */
  async delete(project: Project, isEmpty: () => Promise<boolean>): Promise<void> {
    await this.kit.transact(async (sql, emit) => {
      await sql.query('SELECT id FROM projects WHERE id = $1 FOR UPDATE', [project.id]);
      const [busy] = await sql.query<{ busy: boolean }>(
        `SELECT EXISTS (SELECT FROM operations WHERE ended_at IS NULL
                 AND (project = $1 OR input::text LIKE '%' || $1::text || '%'))
             OR EXISTS (SELECT FROM provisions WHERE project = $1 AND ended_at IS NULL) AS busy`,
        [project.id],
      );
      if (busy?.busy || !(await isEmpty()))
        throw new M2Error(
          'project.not_empty',
          `The project "${project.name}" still has nodes, provisions, disks (also in the trash), images or operations`,
        );
      await sql.query('DELETE FROM provisions WHERE project = $1', [project.id]);
      await sql.query('DELETE FROM projects WHERE id = $1', [project.id]);
      emit(
        projectDeleted,
        { id: project.id, project: project.id, name: project.name },
        { entity: project.id, project: project.id },
      );
    });
  }
}

const toProject = ({ id, name, created_at }: Row): Project => ({ id, name, createdAt: created_at.toISOString() });
