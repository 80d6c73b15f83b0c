import { M2Error, type Role, type Token, tokenCreated, tokenRevoked } from '@m2/contracts';
import { type Kit, KIT, newestFirst, violatesReference } from '@m2/service-kit';
import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { createHash, randomBytes } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import type { GatewayConfig } from '../config.js';
import type { Actor } from './actor.js';

interface Row {
  id: string;
  name: string;
  role: Role;
  project: string | null;
  created_at: Date;
}

/** A token is 256 random bits, so that a plain hash of it can be kept: there is nothing to guess, and the look-up is one index read. */
const hashOf = (value: string) => createHash('sha256').update(value).digest();

const bootstrapName = 'bootstrap';

@Injectable()
export class Tokens implements OnModuleInit {
  constructor(@Inject(KIT) private readonly kit: Kit<GatewayConfig>) {}

  /** The configured admin token is the only one of its name; a new value voids the old one. */
  async onModuleInit(): Promise<void> {
    const value = this.kit.config.adminToken;
    if (!value) return;
    await this.kit.database.transaction(async (sql) => {
      await sql.query(
        `UPDATE tokens SET revoked_at = now() WHERE name = $1 AND project IS NULL AND hash <> $2 AND revoked_at IS NULL`,
        [bootstrapName, hashOf(value)],
      );
      await sql.query(
        `INSERT INTO tokens (id, name, role, hash) VALUES ($1, $2, 'admin', $3) ON CONFLICT (hash) DO UPDATE SET revoked_at = NULL`,
        [uuidv7(), bootstrapName, hashOf(value)],
      );
    });
  }

  async actorOf(value: string): Promise<Actor | undefined> {
    const [row] = await this.kit.database.query<Row>(
      'SELECT id, name, role, project FROM tokens WHERE hash = $1 AND revoked_at IS NULL',
      [hashOf(value)],
    );
    return row && { token: row.id, name: row.name, role: row.role, project: row.project };
  }

  /** Makes a token. One that was made with this `id` gets a new value: nobody was told its first one. */
  async create(id: string, name: string, role: Role, project: string | null): Promise<Token & { value: string }> {
    const value = `m2_${randomBytes(32).toString('base64url')}`;
    const created = await this.kit
      .transact(async (sql, emit) => {
        const [row] = await sql.query<Row & { is_new: boolean }>(
          `INSERT INTO tokens (id, name, role, project, hash) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (id) DO UPDATE SET hash = excluded.hash WHERE tokens.revoked_at IS NULL RETURNING *, xmax = 0 AS is_new`,
          [id, name, role, project, hashOf(value)],
        );
        if (!row) throw new M2Error('token.not_found', 'The token was made and revoked meanwhile');
        if (row.is_new) emit(tokenCreated, { id, project, name, role }, { entity: id, project });
        return toToken(row);
      })
      .catch((error: unknown) => {
        if (violatesReference(error, 'tokens_project_fkey'))
          throw new M2Error('project.not_found', `There is no project ${project}`);
        throw error;
      });
    return { ...created, value };
  }

  async list({
    cursor,
    limit,
  }: {
    cursor?: string | undefined;
    limit: number;
  }): Promise<{ items: Token[]; next?: string }> {
    const rows = await this.kit.database.search<Row>(
      `SELECT * FROM tokens WHERE revoked_at IS NULL AND ($1::uuid IS NULL OR id < $1) ORDER BY id DESC LIMIT $2`,
      [newestFirst.read(cursor), limit + 1],
    );
    return newestFirst.page(rows.map(toToken), limit);
  }

  async revoke(id: string): Promise<void> {
    await this.kit.transact(async (sql, emit) => {
      const [row] = await sql.query<Row>(
        'UPDATE tokens SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING *',
        [id],
      );
      if (!row) throw new M2Error('token.not_found', `There is no token ${id}`);
      emit(tokenRevoked, { id, project: row.project, name: row.name }, { entity: id, project: row.project });
    });
  }
}

const toToken = ({ id, name, role, project, created_at }: Row): Token => ({
  id,
  name,
  role,
  project,
  createdAt: created_at.toISOString(),
});
