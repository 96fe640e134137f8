import { Body, Controller, Get, HttpCode, HttpStatus, Inject, Param, Post, Query, Req, Sse } from '@nestjs/common';
import { ApiBody, ApiParam, ApiQuery, ApiResponse, ApiTags } from '@nestjs/swagger';
import { TimeoutError } from '@starter/messaging';
import {
  Access,
  changes,
  openApi,
  ProblemException,
  SchemaPipe,
  Waits,
  type ServerSentEvent,
  type WaitingRequest,
} from '@starter/service';
import type { Observable } from 'rxjs';
import { z } from 'zod';
import { TaskEndedError } from './task-control.js';
import { taskStates, type ScheduledTask, type Task } from './task-view.js';
import { Tasks } from './tasks.js';

const taskId = z.object({ id: z.string().min(1).max(200) });
const listing = z.strictObject({
  limit: z.coerce.number().int().min(1).max(100).default(20),
  after: z.string().exactOptional(),
  state: z.enum(taskStates).exactOptional(),
  type: z.string().exactOptional(),
});
const waiting = z.strictObject({
  /** `30s`; `0s` answers at once. */
  timeout: z
    .string()
    .regex(/^\d{1,2}s$/, 'whole seconds: 0s to 60s')
    .refine((text) => Number.parseInt(text, 10) <= 60, 'at most 60s; ask again')
    .default('0s'),
});
const revocation = z.strictObject({
  /** What runs ends as revoked at once. Default: its signal aborts. */
  terminate: z.boolean().default(false),
  reason: z.string().trim().min(1).max(1_000),
});
const instant = z.iso.datetime().nullable();
const view = z.object({
  id: z.string(),
  name: z.string().nullable(),
  args: z.unknown(),
  state: z.enum(taskStates),
  worker: z.string().nullable(),
  attempt: z.int(),
  starts: z.int(),
  progress: z
    .object({ current: z.number(), total: z.number(), percent: z.number(), detail: z.unknown().optional() })
    .nullable(),
  result: z.unknown(),
  error: z.string().nullable(),
  revoked: z.boolean(),
  receivedAt: instant,
  startedAt: instant,
  heartbeatAt: instant,
  dueAt: instant,
  endedAt: instant,
});
const scheduled = view
  .pick({ id: true, name: true, args: true, attempt: true, error: true })
  .extend({ waitsFor: z.enum(['retry', 'rate limit']), dueAt: z.iso.datetime() });

@ApiTags('tasks')
@Controller('tasks')
export class TaskController {
  constructor(
    @Inject(Tasks) private readonly tasks: Tasks,
    @Inject(Waits) private readonly waits: Waits,
  ) {}

  /** Newest first. The id of the last one, passed as `after`, reads on. */
  @Get()
  @Access('viewer', { management: true })
  @ApiQuery({ name: 'limit', schema: openApi(listing.shape.limit), required: false })
  @ApiQuery({ name: 'after', schema: openApi(listing.shape.after), required: false })
  @ApiQuery({ name: 'state', schema: openApi(listing.shape.state), required: false })
  @ApiQuery({ name: 'type', schema: openApi(listing.shape.type), required: false })
  @ApiResponse({ status: 200, schema: openApi(z.array(view)) })
  list(@Query(new SchemaPipe(listing)) filter: z.output<typeof listing>): Promise<Task[]> {
    return this.tasks.list(filter);
  }

  /** Those that run, in all processes of the service. */
  @Get('active')
  @Access('viewer', { management: true })
  @ApiResponse({ status: 200, schema: openApi(z.array(view)) })
  active(): Promise<Task[]> {
    return this.tasks.active();
  }

  /** Those that wait for their next attempt, and all commands that wait for their rate limit. */
  @Get('scheduled')
  @Access('viewer', { management: true })
  @ApiResponse({ status: 200, schema: openApi(z.array(scheduled)) })
  scheduled(): Promise<ScheduledTask[]> {
    return this.tasks.scheduled();
  }

  /** How a task stands; PENDING when nothing is known of it, which may lie in the queue or never come. */
  @Get(':id')
  @Access('viewer', { management: true })
  @ApiParam({ name: 'id', schema: openApi(taskId.shape.id) })
  @ApiResponse({ status: 200, schema: openApi(view) })
  byId(@Param(new SchemaPipe(taskId)) { id }: z.output<typeof taskId>): Promise<Task> {
    return this.tasks.find(id);
  }

  /** Waits until the task is over, at most for the timeout, and answers how it stands then. */
  @Get(':id/result')
  @Access('viewer', { management: true })
  @ApiParam({ name: 'id', schema: openApi(taskId.shape.id) })
  @ApiQuery({ name: 'timeout', schema: openApi(waiting.shape.timeout), required: false })
  @ApiResponse({ status: 200, schema: openApi(view) })
  @ApiResponse({ status: 400, description: 'The timeout is malformed, or longer than 60 s.' })
  async result(
    @Param(new SchemaPipe(taskId)) { id }: z.output<typeof taskId>,
    @Query(new SchemaPipe(waiting)) { timeout }: z.output<typeof waiting>,
    @Req() request: WaitingRequest,
  ): Promise<Task> {
    const timeoutMs = 1_000 * Number.parseInt(timeout, 10);
    try {
      return await this.waits.during(request, (signal) => this.tasks.result(id, { timeoutMs, signal }));
    } catch (error) {
      if (error instanceof TimeoutError) return this.tasks.find(id);
      throw error;
    }
  }

  /** Keeps a task from starting, or ends it. An id that is not known yet is revoked beforehand. */
  @Post(':id/revoke')
  @Access('operator', { management: true })
  @HttpCode(200)
  @ApiParam({ name: 'id', schema: openApi(taskId.shape.id) })
  @ApiBody({ schema: openApi(revocation) })
  @ApiResponse({ status: 200, schema: openApi(view) })
  @ApiResponse({ status: 409, description: 'It is over.' })
  async revoke(
    @Param(new SchemaPipe(taskId)) { id }: z.output<typeof taskId>,
    @Body(new SchemaPipe(revocation)) body: z.output<typeof revocation>,
  ): Promise<Task> {
    try {
      return await this.tasks.revoke(id, body);
    } catch (error) {
      if (error instanceof TaskEndedError) throw new ProblemException(HttpStatus.CONFLICT, error.message);
      throw error;
    }
  }

  /** Server-sent events: how the task stands, whenever that has changed, until it is over or the service stops. */
  @Sse(':id/events')
  @Access('viewer', { management: true })
  @ApiParam({ name: 'id', schema: openApi(taskId.shape.id) })
  @ApiResponse({ status: 200, description: 'Events of type `task`, each with the same object as `GET /tasks/:id`.' })
  events(
    @Param(new SchemaPipe(taskId)) { id }: z.output<typeof taskId>,
    @Req() request: WaitingRequest,
  ): Promise<Observable<ServerSentEvent>> {
    return changes(
      'task',
      () => this.tasks.find(id),
      ({ endedAt }) => endedAt !== null,
      this.waits.begin(request),
    );
  }
}
