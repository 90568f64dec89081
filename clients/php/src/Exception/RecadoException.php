<?php

declare(strict_types=1);

namespace Recado\Exception;

/** Every failure of this package but `BadInput`. No text of it holds a key. */
class RecadoException extends \RuntimeException
{
}
