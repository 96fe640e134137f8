import { Body, Controller, Headers, HttpCode, Inject, Post } from '@nestjs/common';
import { ApiBody, ApiHeader, ApiResponse, ApiTags } from '@nestjs/swagger';
import { StartCampaign } from '@starter/contracts';
import { Access, idempotencyKeyOf, openApi, SchemaPipe } from '@starter/service';
import { z } from 'zod';
import { Campaigns, type AcceptedCampaign } from './campaigns.js';

const campaign = z.strictObject({
  name: StartCampaign.schema.shape.name,
  registeredFrom: z.iso.datetime().exactOptional(),
  registeredUntil: z.iso.datetime().exactOptional(),
});
const accepted = z.object({ campaignId: z.uuid(), commandId: z.uuid(), recipients: z.int() });

@ApiTags('campaigns')
@Controller('campaigns')
export class CampaignController {
  constructor(@Inject(Campaigns) private readonly campaigns: Campaigns) {}

  /** Accepts a campaign: an e-mail to every active user who has registered in that time, which is all of them by default. */
  @Post()
  @Access('operator')
  @HttpCode(202)
  @ApiBody({ schema: openApi(campaign) })
  @ApiHeader({ name: 'Idempotency-Key', required: false, description: 'The same key gets the same answer.' })
  @ApiResponse({ status: 202, schema: openApi(accepted) })
  @ApiResponse({ status: 400, description: 'The request does not fit.' })
  @ApiResponse({ status: 409, description: 'There is no active user of that time, or there are too many.' })
  @ApiResponse({ status: 422, description: 'The Idempotency-Key was used for another request.' })
  start(
    @Body(new SchemaPipe(campaign)) body: z.output<typeof campaign>,
    @Headers('idempotency-key') header?: string,
  ): Promise<AcceptedCampaign> {
    const key = idempotencyKeyOf(header);
    return this.campaigns.start({ ...body, ...(key === undefined ? {} : { idempotencyKey: key }) });
  }
}
