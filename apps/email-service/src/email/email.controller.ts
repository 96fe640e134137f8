import { Controller, Get, HttpStatus, Inject, Param } from '@nestjs/common';
import { ApiParam, ApiResponse, ApiTags } from '@nestjs/swagger';
import { EmailSent } from '@starter/contracts';
import { ActorRuntime } from '@starter/event-sourcing';
import { PersonalData } from '@starter/personal-data';
import { Access, openApi, ProblemException, SchemaPipe } from '@starter/service';
import { z } from 'zod';
import { emailDelivery } from './email.decider.js';

const emailId = z.object({ id: z.uuid() });
const { template } = EmailSent.schema.shape;
const email = z.object({
  id: z.uuid(),
  status: z.enum(['attempting', 'sent', 'failed']),
  /** Null when the recipient was erased. */
  to: z.email().nullable(),
  template,
  /** Attempts begun. */
  attempts: z.int(),
  /** Of an e-mail that was sent: the Message-ID header. */
  messageId: z.string().optional(),
  /** Of an e-mail that failed. */
  reason: z.string().optional(),
});

@ApiTags('emails')
@Controller('emails')
export class EmailController {
  constructor(
    @Inject(ActorRuntime) private readonly runtime: ActorRuntime,
    @Inject(PersonalData) private readonly personalData: PersonalData,
  ) {}

  /** The state of one e-mail; its id is the id of the command that asked for it. */
  @Get(':id')
  @Access('operator')
  @ApiParam({ name: 'id', schema: openApi(emailId.shape.id) })
  @ApiResponse({ status: 200, schema: openApi(email) })
  @ApiResponse({ status: 400, description: 'The id is no UUID.' })
  @ApiResponse({ status: 404, description: 'No command with this id has arrived yet.' })
  async byId(@Param(new SchemaPipe(emailId)) { id }: z.output<typeof emailId>): Promise<z.output<typeof email>> {
    const { state } = await this.runtime.read(emailDelivery, id);
    if (state.status !== 'new') {
      const [to = null] = await this.personalData.open([state.to]);
      return { id, ...state, to };
    }
    const detail = `There is no e-mail ${id}; an e-mail has the id of its SendEmail command, ask again when that has arrived.`;
    throw new ProblemException(HttpStatus.NOT_FOUND, detail);
  }
}
