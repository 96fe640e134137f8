import { HttpStatus, type PipeTransform } from '@nestjs/common';
import type { ApiHeaderOptions } from '@nestjs/swagger';
import { z } from 'zod';
import { ProblemException } from './problem.js';

/** `@Body(new SchemaPipe(schema))`: what does not fit is a 400 that names each field. */
export class SchemaPipe<Schema extends z.ZodType> implements PipeTransform<unknown, z.output<Schema>> {
  constructor(private readonly schema: Schema) {}

  transform(value: unknown): z.output<Schema> {
    const parsed = this.schema.safeParse(value ?? {});
    if (parsed.success) return parsed.data;
    const errors = parsed.error.issues.map(({ path, message }) => ({ field: path.join('.'), message }));
    throw new ProblemException(HttpStatus.BAD_REQUEST, 'The request does not fit; see errors.', { errors });
  }
}

/** The same schema in the OpenAPI document: `@ApiBody({ schema: openApi(schema) })`. */
export function openApi(schema: z.ZodType): Exclude<NonNullable<ApiHeaderOptions['schema']>, { $ref: string }> {
  const { $schema: _, ...json } = z.toJSONSchema(schema, {
    io: 'input',
    target: 'openapi-3.0',
    unrepresentable: 'any',
  });
  return json as never;
}
