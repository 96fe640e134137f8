import { Controller, Get, Inject } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { HealthCheck, HealthCheckService, HealthIndicatorService, TypeOrmHealthIndicator } from '@nestjs/terminus';
import { Messaging } from '@starter/messaging';

@ApiTags('health')
@Controller('health')
export class HealthController {
  constructor(
    @Inject(HealthCheckService) private readonly health: HealthCheckService,
    @Inject(HealthIndicatorService) private readonly indicators: HealthIndicatorService,
    @Inject(TypeOrmHealthIndicator) private readonly database: TypeOrmHealthIndicator,
    @Inject(Messaging) private readonly messaging: Messaging,
  ) {}

  /** The process answers. No answer means that its event loop hangs, and that a restart helps. */
  @Get('live')
  @HealthCheck()
  live() {
    return this.health.check([]);
  }

  /** The database answers, every consumer is attached to its broker, and all of them get on with their work. */
  @Get('ready')
  @HealthCheck()
  ready() {
    return this.health.check([
      () => this.database.pingCheck('database', { timeout: 2_000 }),
      () => {
        const indicator = this.indicators.check('messaging');
        const problems = this.messaging.problems();
        if (problems.length === 0) return indicator.up();
        return indicator.down(Object.fromEntries(problems.map(({ part, problem }) => [part, problem])));
      },
    ]);
  }

  /** Migrated, declared and attached once: before, `StartupServer` answers. It stays so, whatever happens later. */
  @Get('startup')
  @HealthCheck()
  startup() {
    return this.health.check([
      () => {
        const indicator = this.indicators.check('startup');
        return this.messaging.started ? indicator.up() : indicator.down('not attached to the brokers yet: wait');
      },
    ]);
  }
}
