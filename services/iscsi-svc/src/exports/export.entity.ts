import type { IscsiExport } from '@m2/contracts';
import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { BackingStore } from '../backings/rbd-disk.js';
import type { Portal } from '../targets/target.port.js';

/** What a target should have. The target itself keeps nothing over a restart. */
@Entity('exports')
export class ExportEntity {
  @PrimaryColumn('uuid') id!: string;
  @Column('uuid') project!: string;
  @Column('uuid') disk!: string;
  @Column('text') iqn!: string;
  @Column('text') initiator!: string;
  @Column('jsonb') backing!: BackingStore;
  @Column('text', { name: 'chap_user' }) chapUser!: string;
  @Column('bytea', { name: 'chap_secret' }) chapSecret!: Buffer;
  @Column('text') state!: IscsiExport['state'];
  @Column('timestamptz', { name: 'created_at' }) createdAt!: Date;
}

export const toExport = (entity: ExportEntity, portals: Portal[]) => ({
  id: entity.id,
  project: entity.project,
  disk: entity.disk,
  iqn: entity.iqn,
  lun: 1 as const,
  initiator: entity.initiator,
  portals,
  state: entity.state,
  createdAt: entity.createdAt.toISOString(),
});
