import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { ActorModule, ProjectionModule } from '@starter/event-sourcing';
import { PersonalData } from '@starter/personal-data';
import { CampaignController } from './campaign.controller.js';
import { Campaigns } from './campaigns.js';
import { emailReservation } from './email-reservation.js';
import { erasure } from './erasure.js';
import { Registration } from './registration.js';
import { userDirectory } from './user-directory.js';
import { UserExportController } from './user-export.controller.js';
import { UserExport } from './user-export.js';
import { UserController } from './user.controller.js';
import { user } from './user.decider.js';
import { UserQueries } from './user.queries.js';
import { UserRow } from './user.row.js';
import { Verification } from './verification.js';

export const projections = {
  inline: [
    { inject: [PersonalData], useFactory: emailReservation },
    { inject: [PersonalData], useFactory: erasure },
  ],
  following: [userDirectory],
};

@Module({
  imports: [
    ActorModule.forFeature({ actors: [user], inlineProjections: projections.inline }),
    ProjectionModule.forFeature(projections.following),
    TypeOrmModule.forFeature([UserRow]),
  ],
  controllers: [UserController, UserExportController, CampaignController],
  providers: [Registration, Verification, Campaigns, UserQueries, UserExport],
})
export class UserModule {}
