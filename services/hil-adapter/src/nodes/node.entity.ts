import type { Node } from '@m2/contracts';
import { Column, Entity, OneToMany, ManyToOne, JoinColumn, PrimaryColumn } from 'typeorm';

/** The one mapping of the table: for repositories, and for plain SQL through `Database.columns`. */
@Entity('nodes')
export class NodeEntity {
  @PrimaryColumn('uuid') id!: string;
  @Column('text') name!: string;
  @Column('uuid', { nullable: true }) project!: string | null;
  @Column('text') firmware!: Node['firmware'];
  @Column('jsonb') bmc!: Node['bmc'];
  @Column('bytea', { name: 'bmc_password', select: false }) bmcPassword!: Buffer;
  @Column('uuid', { nullable: true }) holder!: string | null;
  @Column('uuid', { name: 'holder_project', nullable: true }) holderProject!: string | null;
  @Column('jsonb', { nullable: true }) broken!: Node['broken'];
  @Column('text', { name: 'power_effect', nullable: true }) powerEffect!: string | null;
  @Column('timestamptz', { name: 'created_at' }) createdAt!: Date;
  @OneToMany(() => NicEntity, (nic) => nic.node) nics!: NicEntity[];
}

@Entity('nics')
export class NicEntity {
  @ManyToOne(() => NodeEntity, (node) => node.nics)
  @JoinColumn({ name: 'node' })
  node!: NodeEntity;
  @PrimaryColumn('uuid', { name: 'node' }) nodeId!: string;
  @PrimaryColumn('text') label!: string;
  @Column('macaddr') mac!: string;
  @Column('int') position!: number;
  @Column('text', { nullable: true }) network!: string | null;
}

export const toNode = (entity: NodeEntity): Node => ({
  id: entity.id,
  name: entity.name,
  project: entity.project,
  nics: entity.nics.toSorted((a, b) => a.position - b.position).map(({ label, mac }) => ({ label, mac })),
  firmware: entity.firmware,
  bmc: entity.bmc,
  holder: entity.holder,
  holderProject: entity.holderProject,
  broken: entity.broken,
  createdAt: entity.createdAt.toISOString(),
});
