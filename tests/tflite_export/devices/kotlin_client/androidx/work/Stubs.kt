// As much of WorkManager and of coroutines as the generated worker names.
package androidx.work

import android.content.Context
import java.util.concurrent.TimeUnit

class WorkerParameters

abstract class ListenableWorker(val applicationContext: Context) {
  val runAttemptCount = 0

  class Result private constructor() {
    companion object {
      fun success() = Result()
      fun retry() = Result()
      fun failure() = Result()
    }
  }
}

abstract class CoroutineWorker(context: Context, parameters: WorkerParameters) :
  ListenableWorker(context) {
  abstract suspend fun doWork(): Result
}

enum class NetworkType { UNMETERED }

enum class ExistingPeriodicWorkPolicy { KEEP }

class Constraints {
  class Builder {
    fun setRequiresCharging(required: Boolean) = this
    fun setRequiresDeviceIdle(required: Boolean) = this
    fun setRequiresBatteryNotLow(required: Boolean) = this
    fun setRequiredNetworkType(type: NetworkType) = this
    fun build() = Constraints()
  }
}

class PeriodicWorkRequest

class PeriodicBuilder {
  fun setConstraints(constraints: Constraints) = this
  fun build() = PeriodicWorkRequest()
}

inline fun <reified Worker : ListenableWorker> PeriodicWorkRequestBuilder(
  interval: Long, unit: TimeUnit
) = PeriodicBuilder()

class WorkManager {
  fun cancelUniqueWork(name: String) {}
  fun enqueueUniquePeriodicWork(
    name: String, policy: ExistingPeriodicWorkPolicy, request: PeriodicWorkRequest
  ) {}

  companion object {
    fun getInstance(context: Context) = WorkManager()
  }
}
