import { CampaignCompleted, CompleteCampaign } from '@starter/contracts';
import { apply, defineActor, handle, on } from '@starter/event-sourcing';

export type CampaignState =
  { readonly status: 'new' } | { readonly status: 'completed'; readonly sent: number; readonly failed: number };

export const campaign = defineActor<CampaignState>('campaign', {
  initialState: { status: 'new' },
  isOver: ({ status }) => status === 'completed',
  decide: on(
    handle(CompleteCampaign, ({ data: { results, ...of } }, state) => {
      if (state.status === 'completed') return [];
      const failed = results.filter((result) => result === null).length;
      return [CampaignCompleted.of({ ...of, sent: results.length - failed, failed })];
    }),
  ),
  evolve: on(apply(CampaignCompleted, (_, { data: { sent, failed } }) => ({ status: 'completed', sent, failed }))),
});
