import { Body, Controller, Get, Headers, HttpCode, Inject, Param, Post, Query, Req, Sse } from '@nestjs/common';
import { ApiBody, ApiHeader, ApiParam, ApiQuery, ApiResponse, ApiTags } from '@nestjs/swagger';
import { ResolveRequest, UnstickWorkflow } from '@starter/contracts';
import {
  Access,
  changes,
  idempotencyKeyOf,
  openApi,
  SchemaPipe,
  type ServerSentEvent,
  Waits,
  type WaitingRequest,
} from '@starter/service';
import type { Observable } from 'rxjs';
import { z } from 'zod';
import { definitionSchema, type Json } from './definition/definition.js';
import { duration, durationMs } from './definition/duration.js';
import { workflowStates } from './engine/workflow.state.js';
import { failedStart, type FailedStart } from './failed-starts.js';
import type { Accepted } from './workflow-commands.js';
import { WorkflowControl } from './workflow-control.js';
import { WorkflowRequests } from './workflow-requests.js';
import { stepStates } from './steps.view.js';
import { WorkflowQueries, type WorkflowPage } from './workflow.queries.js';
import {
  workflowProgress,
  workflowResult,
  workflowView,
  type WorkflowResult,
  type WorkflowView,
} from './workflow.view.js';

const start = z.strictObject({
  /** Name of a workflow of this service; with a definition, what this run is called. */
  workflow: z.string().min(1).max(100),
  /** See `GET /workflows/definition-schema`. */
  definition: z.unknown().optional(),
  input: z.record(z.string(), z.unknown()),
});
const path = z.string().regex(/^0(\.\d+)*$/, 'a place in the definition, as `0.2`');
const cancellation = z.strictObject({
  reason: z.string().trim().min(1).max(1_000),
  /** Only this task, group or other node; what it is in goes on as after a failure of it. */
  path: path.exactOptional(),
  /** Tasks that are under way end as revoked at once. Default: their signals abort. */
  terminate: z.boolean().default(false),
});
const fork = z.strictObject({ from: path });
const unsticking = UnstickWorkflow.schema.pick({ path: true, remedy: true });
const resolving = z
  .strictObject({
    remedy: ResolveRequest.schema.shape.remedy,
    /** With `succeed`, what the task led to. Default: null. */
    result: z.unknown().optional(),
    /** Recorded; with `fail`, why the task has failed. */
    reason: z.string().trim().min(1).max(1_000).exactOptional(),
  })
  .refine(({ remedy, result }) => remedy === 'succeed' || result === undefined, {
    path: ['result'],
    message: 'only what succeeds has a result; leave it out',
  });
const requestOf = z.object({ id: z.uuid(), requestId: z.uuid() });
const workflowId = z.object({ id: z.uuid() });
const listing = z.strictObject({
  limit: z.coerce.number().int().min(1).max(100).default(20),
  after: z.string().exactOptional(),
  state: z.enum(workflowStates).exactOptional(),
});
const steps = z.strictObject({
  /** Steps on a page; fewer when their results take more than 1 MB. */
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
  /** `next` of the page before. */
  after: z.coerce.number().int().min(0).exactOptional(),
  /** Only steps that stand so. */
  state: z.enum(stepStates).exactOptional(),
});
const waiting = z.strictObject({
  /** `30s`; `0s` answers at once. */
  timeout: duration.refine((text) => durationMs(text) <= 60_000, 'at most 60s; ask again').default('0s'),
});
const accepted = z.object({ workflowId: z.uuid(), commandId: z.uuid() });
const page = z.object({
  workflows: z.array(
    z.object({
      id: z.uuid(),
      name: z.string(),
      state: z.enum(workflowStates),
      startedAt: z.iso.datetime(),
      updatedAt: z.iso.datetime(),
      /** When it was over; null while it is under way or stuck. */
      endedAt: z.iso.datetime().nullable(),
      /** The minute in which the oldest request was sent that nobody has answered. */
      oldestRequestAt: z.iso.datetime().nullable(),
    }),
  ),
  next: z.string().optional(),
});

const schemaOfDefinitions = definitionSchema() as object;

@ApiTags('workflows')
@Controller('workflows')
export class WorkflowController {
  constructor(
    @Inject(WorkflowRequests) private readonly requests: WorkflowRequests,
    @Inject(WorkflowControl) private readonly control: WorkflowControl,
    @Inject(WorkflowQueries) private readonly queries: WorkflowQueries,
    @Inject(Waits) private readonly waits: Waits,
  ) {}

  /** Starts a workflow: it is found under `GET /workflows/:id`, and expects its events from now on. */
  @Post()
  @Access('operator')
  @HttpCode(202)
  @ApiBody({ schema: openApi(start) })
  @ApiHeader({ name: 'Idempotency-Key', required: false, description: 'The same key gets the same answer.' })
  @ApiResponse({ status: 202, schema: openApi(accepted) })
  @ApiResponse({
    status: 400,
    description: 'The request, the definition or the input does not fit; errors name the place.',
  })
  @ApiResponse({ status: 404, description: 'There is no workflow of this name.' })
  @ApiResponse({ status: 413, description: 'Definition and input are too large together; the answer names the limit.' })
  @ApiResponse({ status: 422, description: 'The Idempotency-Key was used for another request.' })
  start(
    @Body(new SchemaPipe(start)) body: z.output<typeof start>,
    @Headers('idempotency-key') header?: string,
  ): Promise<Accepted> {
    const key = idempotencyKeyOf(header);
    return this.requests.start({ ...body, ...(key === undefined ? {} : { idempotencyKey: key }) });
  }

  /** The JSON schema of a definition. */
  @Get('definition-schema')
  @Access('viewer')
  @ApiResponse({ status: 200, schema: { type: 'object' } })
  definitionSchema(): object {
    return schemaOfDefinitions;
  }

  /** Ends a workflow as if it had failed: what was done is undone. */
  @Post(':id/cancel')
  @Access('operator')
  @HttpCode(202)
  @ApiParam({ name: 'id', schema: openApi(workflowId.shape.id) })
  @ApiBody({ schema: openApi(cancellation) })
  @ApiResponse({ status: 202, schema: openApi(accepted) })
  @ApiResponse({ status: 404, description: 'Unknown, or not started yet.' })
  @ApiResponse({ status: 409, description: 'It is over, has not begun, or is being undone already.' })
  cancel(
    @Param(new SchemaPipe(workflowId)) { id }: z.output<typeof workflowId>,
    @Body(new SchemaPipe(cancellation)) body: z.output<typeof cancellation>,
  ): Promise<Accepted> {
    return this.control.cancel(id, body);
  }

  /** Starts another workflow that goes on at a step of this one, with the results of the steps before it. */
  @Post(':id/fork')
  @Access('operator')
  @HttpCode(202)
  @ApiParam({ name: 'id', schema: openApi(workflowId.shape.id) })
  @ApiBody({ schema: openApi(fork) })
  @ApiHeader({ name: 'Idempotency-Key', required: false, description: 'The same key gets the same answer.' })
  @ApiResponse({ status: 202, schema: openApi(accepted) })
  @ApiResponse({ status: 404, description: 'Unknown, or not started yet.' })
  @ApiResponse({
    status: 409,
    description: 'It is under way or stuck, or what comes before that step did not end well.',
  })
  @ApiResponse({ status: 422, description: 'The Idempotency-Key was used for another request.' })
  fork(
    @Param(new SchemaPipe(workflowId)) { id }: z.output<typeof workflowId>,
    @Body(new SchemaPipe(fork)) { from }: z.output<typeof fork>,
    @Headers('idempotency-key') header?: string,
  ): Promise<Accepted> {
    return this.control.fork(id, from, idempotencyKeyOf(header));
  }

  /** Says what became of a request that nobody has answered, of a task or of a compensation. A success that comes later is undone. */
  @Post(':id/requests/:requestId/resolve')
  @Access('operator')
  @HttpCode(202)
  @ApiParam({ name: 'id', schema: openApi(requestOf.shape.id) })
  @ApiParam({ name: 'requestId', schema: openApi(requestOf.shape.requestId) })
  @ApiBody({ schema: openApi(resolving) })
  @ApiResponse({ status: 202, schema: openApi(accepted) })
  @ApiResponse({ status: 404, description: 'Unknown, or not started yet.' })
  @ApiResponse({ status: 409, description: 'It has been answered, or nobody waits for it any more.' })
  resolve(
    @Param(new SchemaPipe(requestOf)) { id, requestId }: z.output<typeof requestOf>,
    @Body(new SchemaPipe(resolving)) { result, ...body }: z.output<typeof resolving>,
  ): Promise<Accepted> {
    return this.control.resolve(id, {
      requestId,
      ...body,
      ...(result === undefined ? {} : { result: result as Json }),
    });
  }

  /** Says what to do about the compensation at which a workflow is stuck. */
  @Post(':id/unstick')
  @Access('operator')
  @HttpCode(202)
  @ApiParam({ name: 'id', schema: openApi(workflowId.shape.id) })
  @ApiBody({ schema: openApi(unsticking) })
  @ApiResponse({ status: 202, schema: openApi(accepted) })
  @ApiResponse({ status: 404, description: 'Unknown, or not started yet.' })
  @ApiResponse({ status: 409, description: 'It is not stuck, or at another place.' })
  unstick(
    @Param(new SchemaPipe(workflowId)) { id }: z.output<typeof workflowId>,
    @Body(new SchemaPipe(unsticking)) body: z.output<typeof unsticking>,
  ): Promise<Accepted> {
    return this.control.unstick(id, body);
  }

  /**
   * Where a workflow is, what it waits for and until when, what it has done, and the definition that it follows.
   * Of one that was to be started by a message and was not: why, where that message is, and what to do.
   */
  @Get(':id')
  @Access('viewer')
  @ApiParam({ name: 'id', schema: openApi(workflowId.shape.id) })
  @ApiQuery({ name: 'limit', schema: openApi(steps.shape.limit), required: false })
  @ApiQuery({ name: 'after', schema: openApi(steps.shape.after), required: false })
  @ApiQuery({ name: 'state', schema: openApi(steps.shape.state), required: false })
  @ApiResponse({ status: 200, schema: openApi(z.union([workflowView, failedStart])) })
  @ApiResponse({ status: 400, description: 'The id is no UUID, or the page is malformed.' })
  @ApiResponse({ status: 404, description: 'Unknown, or not started yet.' })
  byId(
    @Param(new SchemaPipe(workflowId)) { id }: z.output<typeof workflowId>,
    @Query(new SchemaPipe(steps)) wanted: z.output<typeof steps>,
  ): Promise<WorkflowView | FailedStart> {
    return this.queries.byId(id, wanted);
  }

  /** What came of a workflow: waits until it is over or stuck, at most for the timeout, and answers how it stands then. */
  @Get(':id/result')
  @Access('viewer')
  @ApiParam({ name: 'id', schema: openApi(workflowId.shape.id) })
  @ApiQuery({ name: 'timeout', schema: openApi(waiting.shape.timeout), required: false })
  @ApiResponse({ status: 200, schema: openApi(workflowResult) })
  @ApiResponse({ status: 400, description: 'The timeout is malformed, or longer than 60 s.' })
  @ApiResponse({ status: 404, description: 'Unknown, or not started by then.' })
  result(
    @Param(new SchemaPipe(workflowId)) { id }: z.output<typeof workflowId>,
    @Query(new SchemaPipe(waiting)) { timeout }: z.output<typeof waiting>,
    @Req() request: WaitingRequest,
  ): Promise<WorkflowResult> {
    return this.waits.during(request, (signal) => this.queries.result(id, durationMs(timeout), signal));
  }

  /** Server-sent events: how far a workflow has come, whenever that has changed, until it is over or the service stops. */
  @Sse(':id/events')
  @Access('viewer')
  @ApiParam({ name: 'id', schema: openApi(workflowId.shape.id) })
  @ApiResponse({ status: 200, schema: openApi(workflowProgress), description: 'Events of type `progress`.' })
  @ApiResponse({ status: 404, description: 'Unknown, or not started yet.' })
  events(
    @Param(new SchemaPipe(workflowId)) { id }: z.output<typeof workflowId>,
    @Req() request: WaitingRequest,
  ): Promise<Observable<ServerSentEvent>> {
    return changes(
      'progress',
      () => this.queries.progress(id),
      ({ state }) => state === 'completed' || state === 'failed',
      this.waits.begin(request),
    );
  }

  /** Newest first. */
  @Get()
  @Access('viewer')
  @ApiQuery({ name: 'limit', schema: openApi(listing.shape.limit), required: false })
  @ApiQuery({ name: 'after', schema: openApi(listing.shape.after), required: false })
  @ApiQuery({ name: 'state', schema: openApi(listing.shape.state), required: false })
  @ApiResponse({ status: 200, schema: openApi(page) })
  newest(@Query(new SchemaPipe(listing)) { limit, ...filter }: z.output<typeof listing>): Promise<WorkflowPage> {
    return this.queries.newest(limit, filter);
  }
}
