import { CompleteCampaign, SendEmail, TimerFired, WorkflowCompleted } from '@starter/contracts';
import { converse, sealedText } from '@starter/testing';
import { startOf, viewOf, workflowInstance } from '@starter/workflows';
import { emailCampaign } from './email-campaign.workflow.js';

const workflowId = '01980000-0000-7000-8000-000000000001';
const of = { campaignId: '01980000-0000-7000-8000-000000000002', name: 'Spring' };
const recipients = (count: number) =>
  Array.from({ length: count }, (_, n) => ({
    to: sealedText(`${n}@example.com`, 'email'),
    name: sealedText(`User ${n}`),
  }));
const mailTo = ({ to, name }: { to: string; name: string }) =>
  SendEmail.of({ to, template: 'newsletter', variables: { name } });
const begin = (count: number) =>
  converse(workflowInstance, workflowId).when(
    startOf(emailCampaign, workflowId, { ...of, recipients: recipients(count) }),
  );

it('sends one e-mail to each recipient, and reports on those that could not be reached as well', () => {
  const [ada, bob, eve] = recipients(3);
  const run = begin(3)
    .thenSends(mailTo(ada!), mailTo(bob!), mailTo(eve!))
    .whenSucceeded(SendEmail, { messageId: 'm1' })
    .whenFailed(SendEmail, '550 no such user')
    .thenSends();
  expect(viewOf(run.state as never).groups).toEqual([{ path: '0.0', size: 3, begun: 3, succeeded: 1, failed: 1 }]);
  run
    .whenSucceeded(SendEmail, { messageId: 'm3' })
    .thenSends(CompleteCampaign.of({ ...of, results: [{ messageId: 'm1' }, null, { messageId: 'm3' }] }))
    .whenSucceeded(CompleteCampaign, { ...of, sent: 2, failed: 1 })
    .thenEndsWith(WorkflowCompleted.of({ workflowId, result: { ...of, sent: 2, failed: 1 } }));
});

it('sends 100 e-mails a second', () => {
  const all = recipients(150).map(mailTo);
  begin(150)
    .thenSends(...all.slice(0, 100))
    .when(TimerFired.of({ workflowId, timerId: 'limit/1/email.send 100/s' }))
    .thenSends(...all.slice(100));
});

it('reports at once on a campaign without recipients', () => {
  begin(0).thenSends(CompleteCampaign.of({ ...of, results: [] }));
});
