import { z } from 'zod';
import type { ErrorCode } from '../errors/index.js';
import type { Permission } from '../permissions.js';

/**
 * What M2 can be asked to do, without a word about the protocol. The gateway implements each once; its doors (REST now) bind them to their
 * protocol; the client, OpenAPI and the pages are made from them.
 */
export interface UseCaseContract<
  Input extends z.ZodObject = z.ZodObject,
  Output extends z.ZodType | null = z.ZodType | null,
  Scope extends 'project' | 'installation' = 'project' | 'installation',
  Permitted extends Permission | 'public' = Permission | 'public',
> {
  /** Its key in `useCases`, which is also OpenAPI's operationId. */
  name: string;
  /** What it is about; OpenAPI's tag. */
  capability: Capability;
  /** A `query` changes nothing; a `change` is done when it is answered; an `operation` goes on after it was accepted. */
  kind: 'query' | 'change' | 'operation';
  summary: string;
  /** Inside one project, which is named beside the input, or in the installation as a whole. */
  scope: Scope;
  /** What a token has to be permitted; `public`: nothing, not even a token. */
  permission: Permitted;
  input: Input;
  /** `null`: nothing is answered. */
  output: Output;
  /** It can also be followed: each change is told as it happens. */
  followed: boolean;
  /** Codes of its own errors, beside those that every use case may end with. */
  errors: readonly ErrorCode[];
  /** An input that works. */
  example: z.input<Input> | undefined;
}

export type AnyUseCase = UseCaseContract<z.ZodObject, z.ZodType | null>;
export type InputOfUseCase<C extends AnyUseCase> = z.output<C['input']>;
export type OutputOfUseCase<C extends AnyUseCase> = C['output'] extends z.ZodType ? z.output<C['output']> : undefined;

export const capabilities = {
  access: 'Who asks, and tokens',
  projects: 'Projects, which images, disks and provisions belong to',
  images: 'Golden images',
  disks: 'Disks, which are clones of images, and their tags',
  storage: 'Quotas, and the state of the storage',
  nodes: 'Bare-metal nodes and their BMCs',
  provisions: 'Nodes that boot from disks',
  operations: 'What is under way, step by step',
  events: 'What happened',
  description: 'This interface itself',
} as const;
export type Capability = keyof typeof capabilities;

const nothing = z.object({});

type Given<Input extends z.ZodObject, Output extends z.ZodType | null, Scope, Permitted> = Pick<
  UseCaseContract,
  'kind' | 'summary'
> &
  Partial<Pick<UseCaseContract, 'followed' | 'errors'>> & {
    permission: Permitted;
    scope?: Scope;
    input?: Input;
    output?: Output;
    example?: z.input<Input>;
  };

/** Declares a use case. Absent: no input, no output, in the installation. */
export const useCase = <
  Input extends z.ZodObject = typeof nothing,
  Output extends z.ZodType | null = null,
  const Scope extends 'project' | 'installation' = 'installation',
  const Permitted extends Permission | 'public' = Permission | 'public',
>({
  input,
  output,
  scope,
  example,
  ...given
}: Given<Input, Output, Scope, Permitted>): Omit<
  UseCaseContract<Input, Output, Scope, Permitted>,
  'name' | 'capability'
> => ({
  followed: false,
  errors: [],
  ...given,
  scope: scope ?? ('installation' as Scope),
  input: input ?? (nothing as unknown as Input),
  output: (output ?? null) as Output,
  example,
});

type Named<T> = { [Name in keyof T]: T[Name] & Pick<UseCaseContract, 'name' | 'capability'> };

/** Names the use cases of a capability by their keys. */
export const ofCapability = <const T extends Record<string, Omit<AnyUseCase, 'name' | 'capability'>>>(
  capability: Capability,
  given: T,
): Named<T> =>
  Object.fromEntries(
    Object.entries(given).map(([name, contract]) => [name, { ...contract, name, capability }]),
  ) as unknown as Named<T>;
