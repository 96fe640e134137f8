import { Body, Controller, Get, Header, Headers, HttpCode, Inject, Param, Post, StreamableFile } from '@nestjs/common';
import { ApiBody, ApiHeader, ApiParam, ApiResponse, ApiTags } from '@nestjs/swagger';
import { ExportUsers } from '@starter/contracts';
import { Access, idempotencyKeyOf, openApi, SchemaPipe } from '@starter/service';
import { OnTask, type TaskContext } from '@starter/tasks';
import { Readable } from 'node:stream';
import { z } from 'zod';
import { UserExport, type AcceptedExport } from './user-export.js';

const exportId = z.object({ id: z.uuid() });
const accepted = z.object({ taskId: z.uuid() });

@ApiTags('users')
@Controller('users/exports')
export class UserExportController {
  constructor(@Inject(UserExport) private readonly exports: UserExport) {}

  /** Asks for an export. `GET /tasks/:id` tells how far it is. */
  @Post()
  @Access('operator')
  @HttpCode(202)
  @ApiBody({ schema: openApi(ExportUsers.schema) })
  @ApiHeader({ name: 'Idempotency-Key', required: false, description: 'The same key gets the same answer.' })
  @ApiResponse({ status: 202, schema: openApi(accepted) })
  @ApiResponse({ status: 400, description: 'The request does not fit.' })
  @ApiResponse({ status: 422, description: 'The Idempotency-Key was used for another request.' })
  start(
    @Body(new SchemaPipe(ExportUsers.schema)) body: z.output<typeof ExportUsers.schema>,
    @Headers('idempotency-key') header?: string,
  ): Promise<AcceptedExport> {
    return this.exports.request(body, idempotencyKeyOf(header));
  }

  @OnTask(ExportUsers)
  export(context: TaskContext<typeof ExportUsers>): Promise<{ users: number }> {
    return this.exports.export(context);
  }

  /** The export as CSV, for 7 days. */
  @Get(':id')
  @Access('operator')
  @Header('content-disposition', 'attachment; filename="users.csv"')
  @ApiParam({ name: 'id', schema: openApi(exportId.shape.id) })
  @ApiResponse({ status: 200, content: { 'text/csv': { schema: { type: 'string' } } } })
  @ApiResponse({ status: 404, description: 'Unknown, or not begun yet.' })
  @ApiResponse({ status: 409, description: 'It is not complete.' })
  async fetch(@Param(new SchemaPipe(exportId)) { id }: z.output<typeof exportId>): Promise<StreamableFile> {
    return new StreamableFile(Readable.from(await this.exports.lines(id)), { type: 'text/csv; charset=utf-8' });
  }
}
