<?php

declare(strict_types=1);

namespace Recado\Laravel;

use Illuminate\Broadcasting\BroadcastManager;
use Illuminate\Contracts\Container\Container;
use Illuminate\Notifications\ChannelManager;
use Illuminate\Support\ServiceProvider;
use Recado\Client;

/**
 * Gives a Laravel application the client (`Recado\Client`), the broadcasting driver `recado` and the notification channel
 * `recado`. Laravel finds it by composer.json; without composer add it to the application's providers.
 */
final class RecadoServiceProvider extends ServiceProvider
{
    public function register(): void
    {
        $this->mergeConfigFrom(__DIR__ . '/../../config/recado.php', 'recado');
        // The client keeps no connection, and nothing of a request.
        $this->app->singleton(Client::class, static function (Container $app): Client {
            $settings = $app->make('config')->get('recado');
            return new Client(array_filter($settings, static fn (mixed $value): bool => $value !== null));
        });
    }

    public function boot(): void
    {
        if ($this->app->runningInConsole()) {
            $this->publishes([__DIR__ . '/../../config/recado.php' => $this->app->configPath('recado.php')], 'recado-config');
        }
        $this->callAfterResolving(BroadcastManager::class, static function (BroadcastManager $manager): void {
            $manager->extend('recado', static fn (Container $app, array $connection): RecadoBroadcaster
                => new RecadoBroadcaster($app->make(Client::class), $connection));
        });
        $this->callAfterResolving(ChannelManager::class, static function (ChannelManager $manager): void {
            $manager->extend('recado', static fn (Container $app): RecadoChannel
                => new RecadoChannel($app->make(Client::class)));
        });
    }
}
