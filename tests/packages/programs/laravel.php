<?php

// A Laravel application of the framework's own libraries: it broadcasts an event, notifies a user, and lets a webhook
// through its middleware. Arguments: the settings, the room of a user, a webhook's body and its headers, in JSON. It prints what
// it has seen.

declare(strict_types=1);

use Illuminate\Broadcasting\BroadcastEvent;
use Illuminate\Broadcasting\BroadcastException;
use Illuminate\Broadcasting\BroadcastManager;
use Illuminate\Broadcasting\BroadcastServiceProvider;
use Illuminate\Broadcasting\Channel;
use Illuminate\Broadcasting\PrivateChannel;
use Illuminate\Config\Repository;
use Illuminate\Container\Container;
use Illuminate\Http\Request;
use Illuminate\Notifications\ChannelManager;
use Illuminate\Notifications\Notification;
use Illuminate\Notifications\NotificationServiceProvider;
use Illuminate\Notifications\RoutesNotifications;
use Recado\Client;
use Recado\Laravel\RecadoMessage;
use Recado\Laravel\RecadoServiceProvider;
use Recado\Laravel\VerifyWebhook;
use Symfony\Component\HttpKernel\Exception\AccessDeniedHttpException;
use Symfony\Component\HttpKernel\Exception\BadRequestHttpException;

require 'Dotenv/autoload.php';
foreach (['Broadcasting', 'Notifications', 'Config', 'Http'] as $library) {
    require "Illuminate/$library/autoload.php";
}
require __DIR__ . '/../../../clients/php/autoload.php';

[, $settings, $room, $body, $headers] = $argv;

final class Application extends Container
{
    public function runningInConsole(): bool
    {
        return true;
    }

    public function configPath(string $path): string
    {
        return "/app/config/$path";
    }
}

final class OrderShipped
{
    public int $order = 7;
    public ?string $socket = null;

    public function __construct(private readonly string $room)
    {
    }

    public function broadcastOn(): array
    {
        return [new PrivateChannel('App.Models.User.' . substr($this->room, 5)), new Channel('news')];
    }

    public function broadcastAs(): string
    {
        return 'order.shipped';
    }
}

final class InvoicePaid extends Notification
{
    public function via(mixed $notifiable): array
    {
        return ['recado'];
    }

    public function toRecado(mixed $notifiable): RecadoMessage
    {
        return (new RecadoMessage('invoice.paid', [['id' => 3]]))->options(['ttl' => 60]);
    }
}

final class User
{
    use RoutesNotifications;

    public function __construct(private readonly string $room)
    {
    }

    public function routeNotificationForRecado(): string
    {
        return $this->room;
    }
}

$app = new Application();
Container::setInstance($app);
$app->instance('app', $app);
$app->instance(Illuminate\Contracts\Container\Container::class, $app);
$app->instance('config', new Repository([
    'recado' => json_decode($settings, true),
    'broadcasting' => [
        'default' => 'recado',
        'connections' => [
            'recado' => ['driver' => 'recado'],
            'bad' => ['driver' => 'recado', 'options' => ['ttl' => 0]],
        ],
    ],
]));
$providers = array_map(
    static fn (string $class): object => new $class($app),
    [BroadcastServiceProvider::class, NotificationServiceProvider::class, RecadoServiceProvider::class],
);
foreach ($providers as $provider) {
    $provider->register();
}
end($providers)->boot();
$told = ['published' => array_values(RecadoServiceProvider::$publishGroups['recado-config'])];

$manager = $app->make(BroadcastManager::class);
(new BroadcastEvent(new OrderShipped($room)))->handle($manager);
try {
    $manager->connection('bad')->broadcast([$room], 'never');
} catch (BroadcastException $error) {
    $told['refused'] = $error->getMessage();
}

// What a queue does with a job that failed after it was sent: the same notification once more.
$notification = new InvoicePaid();
$notification->id = 'c56a4180-65aa-42ec-a945-' . substr(sha1($room), 0, 12);
$sent = array_map(static fn (): object => $app->make(ChannelManager::class)->driver('recado')->send(new User($room), $notification), [1, 2]);
$told['notified'] = [$sent[0]->id === $sent[1]->id, $sent[1]->replayed];

$manager->connection()->channel('orders.{order}', static fn (object $user, string $order): bool => $order === '7');
foreach (['private-orders.7', 'private-orders.8'] as $channel) {
    $request = Request::create('/broadcasting/auth', 'POST', ['channel_name' => $channel]);
    $request->setUserResolver(static fn (): object => new User($room));
    try {
        $told['channels'][] = $manager->connection()->auth($request);
    } catch (AccessDeniedHttpException) {
        $told['channels'][] = 'denied';
    }
}

foreach ([$body, "$body "] as $content) {
    $request = Request::create('/recado-events', 'POST', content: $content);
    $request->headers->add(json_decode($headers, true));
    try {
        $told['events'][] = $app->make(VerifyWebhook::class)->handle(
            $request,
            static fn (Request $request): array => $request->attributes->get('recado_events'),
        );
    } catch (BadRequestHttpException) {
        $told['events'][] = 'refused';
    }
}
ob_start();
var_dump($app->make(Client::class));
$told['client'] = ob_get_clean();
echo json_encode($told, JSON_THROW_ON_ERROR), "\n";
