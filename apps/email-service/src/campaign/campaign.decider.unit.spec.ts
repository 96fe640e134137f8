import { CampaignCompleted, CompleteCampaign } from '@starter/contracts';
import { given } from '@starter/testing';
import { campaign } from './campaign.decider.js';

const of = { campaignId: '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5f', name: 'Spring' };
const complete = CompleteCampaign.of({ ...of, results: [{ messageId: 'm1' }, null, { messageId: 'm3' }] });
const completed = CampaignCompleted.of({ ...of, sent: 2, failed: 1 });

it('reports on a campaign once', () => {
  given(campaign).when(complete).then(completed);
  given(campaign, completed).when(complete).then();
});

it('reports on a campaign without recipients', () => {
  given(campaign)
    .when(CompleteCampaign.of({ ...of, results: [] }))
    .then(CampaignCompleted.of({ ...of, sent: 0, failed: 0 }));
});
