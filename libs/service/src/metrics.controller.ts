import { Controller, Get, Inject, Res } from '@nestjs/common';
import { ApiExcludeController } from '@nestjs/swagger';
import { Messaging } from '@starter/messaging';
import type { FastifyReply } from 'fastify';
import { Access } from './access/access.js';
import { ServiceMetrics } from './prometheus.js';

@ApiExcludeController()
@Controller('metrics')
export class MetricsController {
  private readonly metrics: ServiceMetrics;

  constructor(@Inject(Messaging) messaging: Messaging) {
    this.metrics = new ServiceMetrics(messaging);
  }

  /** For Prometheus; `docs/metrics.md` says what there is. */
  @Get()
  @Access('viewer', { management: true })
  async read(@Res() reply: FastifyReply): Promise<void> {
    await reply.type(this.metrics.contentType).send(await this.metrics.text());
  }
}
