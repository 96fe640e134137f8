import { Body, Controller, Delete, Get, Headers, HttpCode, Inject, Param, Post, Query, Req } from '@nestjs/common';
import { ApiBody, ApiHeader, ApiParam, ApiQuery, ApiResponse, ApiTags } from '@nestjs/swagger';
import { plain, RegisterUser } from '@starter/contracts';
import { Access, idempotencyKeyOf, openApi, SchemaPipe, Waits, type WaitingRequest } from '@starter/service';
import { z } from 'zod';
import { Registration, type Accepted } from './registration.js';
import { Verification } from './verification.js';
import { UserQueries, type User, type UserPage } from './user.queries.js';

const { email, name } = RegisterUser.schema.shape;
const registration = z.strictObject({ email: plain(email), name: plain(name) });
const verification = z.strictObject({ token: plain(RegisterUser.schema.shape.verificationToken) });
const userId = z.object({ id: z.uuid() });
const freshness = z.strictObject({
  atLeastVersion: z.coerce
    .number()
    .int()
    .min(1)
    .max(2 ** 31 - 1)
    .optional(),
});
const paging = z.strictObject({
  limit: z.coerce.number().int().min(1).max(100).default(20),
  after: z.string().optional(),
});
const accepted = z.object({ userId: z.uuid(), commandId: z.uuid() });
const user = z.object({
  id: z.uuid(),
  /** Null, like the name, when the user was erased. */
  email: z.string().nullable(),
  name: z.string().nullable(),
  status: z.enum(['registered', 'verified', 'active', 'deactivated', 'erased']),
  registeredAt: z.iso.datetime(),
  version: z.int(),
});

@ApiTags('users')
@Controller('users')
export class UserController {
  constructor(
    @Inject(Registration) private readonly registrations: Registration,
    @Inject(Verification) private readonly verifications: Verification,
    @Inject(UserQueries) private readonly queries: UserQueries,
    @Inject(Waits) private readonly waits: Waits,
  ) {}

  /** Accepts a registration. The user appears under `GET /users/:id` a moment later. */
  @Post()
  @Access('client')
  @HttpCode(202)
  @ApiBody({ schema: openApi(registration) })
  @ApiHeader({ name: 'Idempotency-Key', required: false, description: 'The same key gets the same answer.' })
  @ApiResponse({ status: 202, schema: openApi(accepted) })
  @ApiResponse({ status: 400, description: 'The request does not fit.' })
  @ApiResponse({ status: 409, description: 'The e-mail address is taken.' })
  @ApiResponse({ status: 422, description: 'The Idempotency-Key was used for another request.' })
  register(
    @Body(new SchemaPipe(registration)) body: z.output<typeof registration>,
    @Headers('idempotency-key') header?: string,
  ): Promise<Accepted> {
    const key = idempotencyKeyOf(header);
    return this.registrations.register({ ...body, ...(key === undefined ? {} : { idempotencyKey: key }) });
  }

  /** Accepts the verification of a user's e-mail address with the token of the welcome e-mail; a second one changes nothing. */
  @Post(':id/verification')
  @Access('public')
  @HttpCode(202)
  @ApiParam({ name: 'id', schema: openApi(userId.shape.id) })
  @ApiBody({ schema: openApi(verification) })
  @ApiResponse({ status: 202, schema: openApi(accepted) })
  @ApiResponse({ status: 400, description: 'The request does not fit.' })
  @ApiResponse({ status: 403, description: 'The token is wrong.' })
  @ApiResponse({ status: 404, description: 'Unknown, or not registered yet.' })
  @ApiResponse({ status: 409, description: 'The user is deactivated.' })
  verify(
    @Param(new SchemaPipe(userId)) { id }: z.output<typeof userId>,
    @Body(new SchemaPipe(verification)) { token }: z.output<typeof verification>,
  ): Promise<Accepted> {
    return this.verifications.verify(id, token);
  }

  /** Accepts the erasure of a user's personal data, here and in every other service; a second request changes nothing. */
  @Delete(':id')
  @Access('operator')
  @HttpCode(202)
  @ApiParam({ name: 'id', schema: openApi(userId.shape.id) })
  @ApiResponse({ status: 202, schema: openApi(accepted) })
  @ApiResponse({ status: 404, description: 'Unknown, or not arrived in the directory yet.' })
  erase(@Param(new SchemaPipe(userId)) { id }: z.output<typeof userId>): Promise<Accepted> {
    return this.registrations.erase(id);
  }

  /** With `atLeastVersion` it waits until the directory contains that event of the user: read your writes. */
  @Get(':id')
  @Access('client')
  @ApiParam({ name: 'id', schema: openApi(userId.shape.id) })
  @ApiQuery({ name: 'atLeastVersion', schema: openApi(freshness.shape.atLeastVersion), required: false })
  @ApiResponse({ status: 200, schema: openApi(user) })
  @ApiResponse({ status: 404, description: 'Unknown, or not arrived in the directory yet.' })
  @ApiResponse({ status: 503, description: 'That version has not arrived in time; see Retry-After.' })
  byId(
    @Param(new SchemaPipe(userId)) { id }: z.output<typeof userId>,
    @Query(new SchemaPipe(freshness)) { atLeastVersion }: z.output<typeof freshness>,
    @Req() request: WaitingRequest,
  ): Promise<User> {
    if (atLeastVersion === undefined) return this.queries.byId(id);
    return this.waits.during(request, (signal) => this.queries.byId(id, atLeastVersion, signal));
  }

  /** Newest first. */
  @Get()
  @Access('operator')
  @ApiQuery({ name: 'limit', schema: openApi(paging.shape.limit), required: false })
  @ApiQuery({ name: 'after', schema: openApi(paging.shape.after), required: false })
  @ApiResponse({ status: 200, schema: openApi(z.object({ users: z.array(user), next: z.string().optional() })) })
  newest(@Query(new SchemaPipe(paging)) { limit, after }: z.output<typeof paging>): Promise<UserPage> {
    return this.queries.newest(limit, after);
  }
}
