import { Controller, Get, Inject } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { HealthCheck, HealthCheckService, HealthIndicatorService, TypeOrmHealthIndicator } from '@nestjs/terminus';
import { Messaging, type Problem } from '@starter/messaging';
import { Access } from './access/access.js';

@ApiTags('health')
@Controller('health')
export class HealthController {
  constructor(
    @Inject(HealthCheckService) private readonly health: HealthCheckService,
    @Inject(HealthIndicatorService) private readonly indicators: HealthIndicatorService,
    @Inject(TypeOrmHealthIndicator) private readonly database: TypeOrmHealthIndicator,
    @Inject(Messaging) private readonly messaging: Messaging,
  ) {}

  /** The process answers, and nothing of its work hangs: where it does, or no answer comes, a restart helps, and only that. */
  @Get('live')
  @Access('public', { management: true })
  @HealthCheck()
  live() {
    return this.health.check([() => this.freeOf(this.messaging.stuck(), 'work')]);
  }

  /**
   * This instance can take requests: for load balancers. They need its database and room in the outbox, and no broker: what
   * is accepted meanwhile waits in the outbox.
   */
  @Get('ready')
  @Access('public', { management: true })
  @HealthCheck()
  ready() {
    return this.health.check([
      () => this.database.pingCheck('database', { timeout: 2_000 }),
      () => {
        const indicator = this.indicators.check('outbox');
        const { high, rows } = this.messaging.relay.backlog;
        return high
          ? indicator.down(`${rows} messages wait to be sent: look what /health/progress says`)
          : indicator.up();
      },
      () => {
        const indicator = this.indicators.check('service');
        return this.messaging.stopping ? indicator.down('it shuts down: use another instance') : indicator.up();
      },
    ]);
  }

  /** It gets on with its work: for alerts and roll-outs. Every consumer is attached to its broker, and nothing is stalled. */
  @Get('progress')
  @Access('public', { management: true })
  @HealthCheck()
  progress() {
    return this.health.check([() => this.freeOf(this.messaging.problems(), 'messaging')]);
  }

  /** Migrated, declared and attached once: before, `StartupServer` answers. It stays so, whatever happens later. */
  @Get('startup')
  @Access('public', { management: true })
  @HealthCheck()
  startup() {
    return this.health.check([
      () => {
        const indicator = this.indicators.check('startup');
        return this.messaging.started ? indicator.up() : indicator.down('not attached to the brokers yet: wait');
      },
    ]);
  }

  /** Down with each problem by its part, up without any. */
  private freeOf(problems: readonly Problem[], key: string) {
    const indicator = this.indicators.check(key);
    if (problems.length === 0) return indicator.up();
    return indicator.down(Object.fromEntries(problems.map(({ part, problem }) => [part, problem])));
  }
}
